r"""What is true of a critic, measured: gradient norms, slopes within and across linear cells, norms of its layers.

Three statements are told apart, since they are often taken for one. The *pointwise* gradient :math:`\|\nabla f\|`; the
*slope* between two points, within one linear cell and across cells; and a *certificate*, the product of the layers'
operator norms, which bounds every slope. Only a certificate makes
:math:`(E f(x) - E f(y)) / L \le W_1` a lower bound; a normalised score has none, for it jumps between cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan.metrics import exact_wasserstein
from gan.normalization.gradient import (
    Critic,
    GradientNorm,
    differentiate,
    normalize_gradient,
    norms,
    scores,
)
from gan.normalization.linear_regions import has_cells, kinked
from gan.normalization.module_types import chain, is_piecewise_linear
from gan.normalization.spectral import LAYERS, input_shapes, operator_norm
from gan.penalties import Normalization

__all__ = ["Facts", "Layer", "Slopes", "audit"]

QUANTILES = (0.05, 0.5, 0.95, 1.0)


@dataclass(frozen=True)
class Slopes:
    r"""Of :math:`|f(a) - f(b)| / \|a - b\|` over segments of one length."""

    length: float  # over the typical distance between data
    segments: int
    # the largest within one linear cell; None: no segment is, or cells are not known
    within: float | None
    across: float | None  # the largest of all others
    above_one: float  # share of all segments with a slope above 1
    crossing: float | None  # share of segments that leave their cell


@dataclass(frozen=True)
class Layer:
    """The operator norm of a layer, and that of its reshaped weight, which usual spectral norm bounds."""

    name: str
    operator: float
    reshaped: float


@dataclass(frozen=True)
class Facts:
    """What :func:`audit` measured; ``verdict`` says it in words."""

    normalization: Normalization
    piecewise_linear: bool
    own_sample: bool  # no score sees another sample
    gradient_norms: tuple[float, ...]  # of the score in its data: 5 %, median, 95 %, largest
    raw_norms: tuple[float, ...]  # of the critic before normalisation
    above_one: float  # share of data whose gradient norm exceeds 1
    largest_score: float
    slopes: tuple[Slopes, ...]
    layers: tuple[Layer, ...]
    certificate: float | None  # a Lipschitz constant, proven; None: none is known
    # certified lower bound and exact value, of W_1 between the data
    wasserstein: tuple[float | None, float] | None
    verdict: str


def audit(
    critic: Critic,
    x: Float[Tensor, "batch *shape"],
    other: Float[Tensor, "batch2 *shape"] | None = None,
    *,
    normalization: Normalization = "none",
    labels: Tensor | None = None,
    eps: float = 0.1,
    K: float = 1.0,
    lengths: Sequence[float] = (1e-3, 1e-2, 1e-1),
) -> Facts:
    """Measure a critic on data ``x``, and where there is ``other`` (generated data, say) between the two.

    Slopes are of segments from each datum in a random direction; ``lengths`` are in units of the
    median distance between data. The critic is put into evaluation and back.
    """
    training = isinstance(critic, nn.Module) and critic.training
    if isinstance(critic, nn.Module):
        critic.eval()
    try:
        return _measure(critic, x.detach(), other, normalization, labels, (eps, K), lengths)
    finally:
        if isinstance(critic, nn.Module):
            critic.train(training)


def _measure(
    critic: Critic,
    x: Tensor,
    other: Tensor | None,
    normalization: Normalization,
    labels: Tensor | None,
    constants: tuple[float, float],
    lengths: Sequence[float],
) -> Facts:
    rule = GradientNorm(normalization, *constants) if normalization != "none" else None

    def score(x: Tensor, labels: Tensor | None = None) -> Tensor:
        if rule is None:
            return scores(critic, x, labels)
        return normalize_gradient(critic, x, rule.method, labels=labels, eps=rule.eps, K=rule.K)

    raw = norms(differentiate(critic, x, labels, create_graph=False)[1])
    value, gradient = differentiate(score, x, labels, create_graph=False)
    slope = norms(gradient)
    layers = _layers(critic, x, labels) if isinstance(critic, nn.Module) else ()
    certificate = _certificate(critic, layers, rule) if labels is None else None
    slopes = tuple(_slopes(score, critic, x, labels, length) for length in lengths)
    found: dict[str, Any] = {
        "normalization": normalization,
        "piecewise_linear": is_piecewise_linear(critic),
        "own_sample": _own_sample(critic, x, labels),
        "gradient_norms": _quantiles(slope),
        "raw_norms": _quantiles(raw),
        "above_one": (slope > 1 + 1e-5).double().mean().item(),
        "largest_score": value.abs().max().item(),
        "slopes": slopes,
        "layers": layers,
        "certificate": certificate,
        "wasserstein": None,
    }
    if other is not None and labels is None:
        gap = (
            (value.mean() - differentiate(score, other, create_graph=False)[0].mean()).abs().item()
        )
        lower = gap / certificate if certificate else None
        found["wasserstein"] = (lower, exact_wasserstein(x.flatten(1), other.flatten(1)))
    return Facts(**found, verdict=_verdict(found))


def _quantiles(values: Tensor) -> tuple[float, ...]:
    return tuple(
        values.double()
        .quantile(torch.tensor(QUANTILES, dtype=torch.float64).to(values.device))
        .tolist()
    )


def _own_sample(critic: Critic, x: Tensor, labels: Tensor | None) -> bool:
    """Whether the first score stays when the other samples of its batch change."""
    few = x[:8]
    changed = torch.cat((few[:1], few[1:].flip(0) + 1))
    own = labels[:8] if labels is not None else None
    with torch.no_grad():
        before = scores(critic, few, own)[0]
        after = scores(critic, changed, own)[0]
    return bool((before - after).abs() <= 1e-4 * (1 + before.abs()))


def _slopes(
    score: Critic, critic: Critic, x: Tensor, labels: Tensor | None, length: float
) -> Slopes:
    scale = torch.cdist(x[:256].flatten(1), x[:256].flatten(1))
    typical = scale[~torch.eye(len(scale), dtype=torch.bool, device=x.device)].median()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype).to(
        x.device
    )
    step = noise * (length * typical / norms(noise)).view(-1, *[1] * (x.ndim - 1))
    ends = (x, x + step)
    values = [differentiate(score, end, labels, create_graph=False)[0] for end in ends]
    slope = (values[0] - values[1]).abs() / norms(ends[0] - ends[1]).to(values[0])
    patterns = [_pattern(critic, end, labels) for end in ends]
    above = (slope > 1 + 1e-4).double().mean().item()
    count = len(x)
    if patterns[0] is None or patterns[1] is None:
        return Slopes(length, count, None, slope.max().item(), above, None)
    same = (patterns[0] == patterns[1]).all(1)
    within, across = (slope[part].max().item() if part.any() else None for part in (same, ~same))
    return Slopes(length, count, within, across, above, (~same).double().mean().item())


@torch.no_grad()
def _pattern(critic: Critic, x: Tensor, labels: Tensor | None) -> Tensor | None:
    """Which side of its kink every unit is on, (B, units).

    None where module types do not tell the cells.
    """
    if not isinstance(critic, nn.Module) or not has_cells(critic):
        return None
    signs: list[Tensor] = []
    hooks = [
        part.register_forward_pre_hook(
            lambda part, inputs: signs.append((inputs[0] > 0).flatten(1))
        )
        for part in kinked(critic)
    ]
    try:
        scores(critic, x, labels)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(signs, 1) if signs else x.new_zeros(len(x), 1, dtype=torch.bool)


def _layers(critic: nn.Module, x: Tensor, labels: Tensor | None) -> tuple[Layer, ...]:
    shapes = input_shapes(critic, x, labels)
    names = {part: name for name, part in critic.named_modules()}
    found = []
    for part, shape in shapes.items():
        assert isinstance(part, LAYERS)
        reshaped = torch.linalg.matrix_norm(part.weight.detach().flatten(1).float(), 2).item()
        found.append(Layer(names[part], operator_norm(part, shape), reshaped))
    return tuple(found)


def _certificate(
    critic: Critic, layers: Sequence[Layer], rule: GradientNorm | None
) -> float | None:
    """The product of the operator norms of a chain whose activations stretch nothing."""
    if rule is not None or not isinstance(critic, nn.Module) or chain(critic) is None:
        return None
    stretch = [
        p.weight.abs().max().item() if isinstance(p, nn.PReLU) else p.negative_slope
        for p in critic.modules()
        if isinstance(p, nn.PReLU | nn.LeakyReLU)
    ]
    return math.prod(layer.operator for layer in layers) * math.prod(
        max(1.0, abs(a)) for a in stretch
    )


def _verdict(found: dict[str, Any]) -> str:
    said = []
    rule = found["normalization"]
    largest = found["gradient_norms"][-1]
    if not found["own_sample"]:
        said.append(
            "A score depends on other samples of its batch: no gradient here is one sample's."
        )
    if rule == "none":
        said.append(
            f"The gradient is {found['gradient_norms'][1]:.3g} at the median datum, at most {largest:.3g}."
        )
    elif not found["piecewise_linear"]:
        said.append(
            f"The critic is smooth, so {rule} bounds nothing: the gradient reaches {largest:.3g}, and exceeds 1 at "
            f"{100 * found['above_one']:.1f} % of the data."
        )
    else:
        said.append(
            f"The gradient is at most {largest:.4g} at the data, as {rule} promises within a linear cell."
        )
    worst = max(
        (s for s in found["slopes"] if s.across is not None), key=lambda s: s.across, default=None
    )
    if worst is not None and rule != "none":
        jumps = worst.across > max(1.0, 1.05 * largest)
        tail = f"across cells slopes reach {worst.across:.3g} on segments of {worst.length:g} of a typical distance"
        said.append(f"It is not Lipschitz: {tail}." if jumps else f"No jump was met: {tail}.")
    if found["certificate"] is not None:
        said.append(f"Its layers prove a Lipschitz constant of {found['certificate']:.3g}.")
    elif rule != "none":
        said.append(
            "No Lipschitz constant can be proven, so its scores estimate no Wasserstein distance."
        )
    else:
        said.append("No Lipschitz constant is known: it is no chain of layers.")
    if found["wasserstein"] is not None:
        lower, exact = found["wasserstein"]
        bound = (
            f"the critic certifies {lower:.3g}"
            if lower is not None
            else "the critic certifies nothing"
        )
        said.append(f"The data are {exact:.4g} apart in W1, of which {bound}.")
    return " ".join(said)
