"""Nearest-neighbour metrics: precision, recall, density, coverage, copies of training rows.

References:
    Improved Precision and Recall Metric (Kynkäänniemi et al., 2019),
    https://arxiv.org/abs/1904.06991

    Reliable Fidelity and Diversity Metrics (Naeem et al., 2020), https://arxiv.org/abs/2002.09797
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gan.metrics.points import ROWS_PER_BLOCK, checked_points
from univae.errors import InputError

__all__ = ["Manifold", "Memory", "memorisation", "nearest", "prdc"]

# A generated row nearer to the training set than this quantile of held-out rows counts as a copy.
COPY_QUANTILE = 0.01


class Manifold(NamedTuple):
    """Shares of points inside the balls around the other set's points, to the k-th neighbour."""

    precision: float  # fraction of generated points inside some real ball
    recall: float  # fraction of real points inside some generated ball
    density: float  # real balls around a generated point, over k; above 1 where real points crowd
    coverage: float  # fraction of real points with a generated one inside their ball


class Memory(NamedTuple):
    """Distances of generated rows to the training set over those of held-out rows."""

    # of the median distances to the nearest training row; about 1 without memorisation
    ratio: float
    copies: float  # fraction of generated rows nearer than the 1 % quantile of held-out rows


def prdc(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], k: int = 5) -> Manifold:
    """Return precision, recall, density and coverage with balls to the k-th nearest neighbour.

    Raises:
        InputError: k is out of range, or all real points are equal, so that their balls have
            radius 0. Generated points may be equal: their balls then contain no real point.
    """
    real, fake = checked_points(real, fake, "prdc")
    _require_balls(real, fake, k)
    real_radii = _radii(real, k)
    fake_radii = _radii(fake, k)

    recalled = []
    covered = []
    balls_around_fake = torch.zeros(len(fake), dtype=torch.float64, device=real.device)
    blocks = zip(
        torch.split(real, ROWS_PER_BLOCK), torch.split(real_radii, ROWS_PER_BLOCK), strict=True
    )
    for block, radii in blocks:
        distances = torch.cdist(block, fake)
        inside_real_balls = distances < radii[:, None]
        balls_around_fake += inside_real_balls.sum(0)
        covered.append(inside_real_balls.any(1))
        recalled.append((distances < fake_radii).any(1))

    return Manifold(
        precision=(balls_around_fake > 0).double().mean().item(),
        recall=torch.cat(recalled).double().mean().item(),
        density=balls_around_fake.mean().item() / k,
        coverage=torch.cat(covered).double().mean().item(),
    )


def memorisation(
    train: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], held_out: Float[Tensor, "k d"]
) -> Memory:
    """Compare the distances of generated and of held-out rows to the nearest training row.

    Both values are NaN where at least half of the held-out rows are training rows.
    """
    train, held_out = checked_points(train, held_out, "memorisation")
    train, fake = checked_points(train, fake, "memorisation")
    fake_distances, _ = nearest(fake, train)
    held_out_distances, _ = nearest(held_out, train)
    if held_out_distances.median() == 0:
        return Memory(math.nan, math.nan)
    ratio = (fake_distances.median() / held_out_distances.median()).item()
    is_copy = fake_distances < held_out_distances.quantile(COPY_QUANTILE)
    return Memory(ratio, is_copy.double().mean().item())


def nearest(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """Return the distance from each point of ``a`` to the nearest point of ``b``, and its index."""
    distances = []
    indices = []
    for block in torch.split(a, ROWS_PER_BLOCK):
        minimum = torch.cdist(block, b).min(1)
        distances.append(minimum.values)
        indices.append(minimum.indices)
    return torch.cat(distances), torch.cat(indices)


def _require_balls(real: Tensor, fake: Tensor, k: int) -> None:
    most = min(len(real), len(fake)) - 1
    if not 1 <= k <= most:
        raise InputError(f"prdc: k must lie in 1..{most}, the points but one; got k={k}")
    if bool((real == real[0]).all()):
        raise InputError(
            f"prdc: the {len(real)} real points are all alike, so their balls have no radius; use "
            "points that differ"
        )


def _radii(x: Tensor, k: int) -> Tensor:
    radii = []
    for block in torch.split(x, ROWS_PER_BLOCK):
        # k + 1: the nearest of all is the point itself.
        radii.append(torch.cdist(block, x).kthvalue(k + 1, 1).values)
    return torch.cat(radii)
