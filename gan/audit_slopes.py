r"""Slopes :math:`|f(a) - f(b)| / \|a - b\|` of a score over short segments.

Segments within one linear region of the critic and across regions are measured separately.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan.normalization.derivatives import Critic, differentiate, norms, per_row, scores
from gan.normalization.linear_regions import activations, has_regions

__all__ = ["SLOPE_TOLERANCE", "Slopes", "measure_slopes"]

# A slope counts as above 1 beyond float32 rounding of a difference of scores over a short segment.
SLOPE_TOLERANCE = 1e-4
# Rows of which the median distance is computed.
ROWS_FOR_SCALE = 256


@dataclass(frozen=True)
class Slopes:
    """Slopes over segments of one length."""

    length: float  # in units of the median distance between rows
    segments: int
    # the largest within one linear region; None: no segment is within one, or regions are unknown
    within: float | None
    across: float | None  # the largest across regions, or of all segments for unknown regions
    above_one: float  # fraction of all segments with a slope above 1
    crossing: float | None  # fraction of segments that leave their region


def measure_slopes(
    score: Critic, critic: Critic, x: Tensor, labels: Tensor | None, length: float
) -> Slopes:
    """Return the slopes of ``score`` from each row of ``x`` in a random direction.

    Args:
        score: the function whose slopes are measured.
        critic: the critic under the score, whose activations identify linear regions.
        x: rows (N, ...), the starts of the segments.
        labels: labels of the rows, for a conditional critic.
        length: of the segments, in units of the median distance between rows.
    """
    end = x + _random_steps(x, length)
    start_score, _ = differentiate(score, x, labels, create_graph=False)
    end_score, _ = differentiate(score, end, labels, create_graph=False)
    slope = (start_score - end_score).abs() / norms(x - end).to(start_score)
    above_one = (slope > 1 + SLOPE_TOLERANCE).double().mean().item()

    start_signs = _activation_signs(critic, x, labels)
    end_signs = _activation_signs(critic, end, labels)
    if start_signs is None or end_signs is None:
        return Slopes(length, len(x), None, slope.max().item(), above_one, None)
    in_region = (start_signs == end_signs).all(1)
    return Slopes(
        length,
        len(x),
        within=_largest(slope[in_region]),
        across=_largest(slope[~in_region]),
        above_one=above_one,
        crossing=(~in_region).double().mean().item(),
    )


def _random_steps(x: Tensor, length: float) -> Tensor:
    distances = torch.cdist(x[:ROWS_FOR_SCALE].flatten(1), x[:ROWS_FOR_SCALE].flatten(1))
    is_pair = ~torch.eye(len(distances), dtype=torch.bool, device=x.device)
    median_distance = distances[is_pair].median()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return noise * per_row(length * median_distance / norms(noise), x)


@torch.no_grad()
def _activation_signs(critic: Critic, x: Tensor, labels: Tensor | None) -> Tensor | None:
    """Return whether each activation is above its kink, (N, units); None for unknown regions."""
    if not isinstance(critic, nn.Module) or not has_regions(critic):
        return None
    signs: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        signs.append((inputs[0] > 0).flatten(1))

    hooks = [module.register_forward_pre_hook(record) for module in activations(critic)]
    try:
        scores(critic, x, labels)
    finally:
        for hook in hooks:
            hook.remove()
    if not signs:  # an affine critic has one region
        return x.new_zeros(len(x), 1, dtype=torch.bool)
    return torch.cat(signs, 1)


def _largest(slope: Tensor) -> float | None:
    return slope.max().item() if len(slope) else None
