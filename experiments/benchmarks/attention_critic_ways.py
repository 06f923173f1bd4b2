r"""Ways to the critic's gradient under gradient normalisation, as scores of a critic.

The contestants of :mod:`experiments.benchmarks.attention_critics`.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from gan.networks.attention import AttentionCritic
from gan.normalization.derivatives import differentiate, norms, per_row, scores
from gan.normalization.rules import GradientNorm
from gan.normalization.score import Score
from univae.attention.core import Mix, attend
from univae.attention.patches import Patches, patch_grid

__all__ = [
    "CENTRAL",
    "DIFFERENCES",
    "FOURTH_ORDER",
    "Nodes",
    "Normalised",
    "by_difference",
    "by_forward_mode",
    "composed",
    "double_backward",
    "for_forward_mode",
]

# A node, and its weights in the derivative along u and in the value, for a step of 1.
Nodes: TypeAlias = tuple[tuple[float, float, float], ...]
# Maps a critic and rows to its normalised scores.
Normalised: TypeAlias = Callable[[nn.Module, Tensor], Tensor]

CENTRAL: Nodes = ((1.0, 0.5, 0.5), (-1.0, -0.5, 0.5))
FOURTH_ORDER: Nodes = (
    (1.0, 8 / 12, 4 / 6),
    (-1.0, -8 / 12, 4 / 6),
    (2.0, -1 / 12, -1 / 6),
    (-2.0, 1 / 12, -1 / 6),
)
DIFFERENCES = {"central difference": CENTRAL, "fourth order": FOURTH_ORDER}
MIX = partial(attend, twice_differentiable=True)


def attend_by_exponentials(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention whose forward-mode derivative can be differentiated."""
    products = q @ k.mT / q.shape[-1] ** 0.5
    weights = (products - products.detach().amax(-1, keepdim=True)).exp()
    return (weights / weights.sum(-1, keepdim=True)) @ v


def normalise_by_moments(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Return normalised rows whose forward-mode derivative can be differentiated."""
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return centred / deviation * norm.weight + norm.bias


def composed(critic: nn.Module, mix: Mix = MIX) -> nn.Module:
    """Return a copy of an attention critic with operators of PyTorch alone."""
    twin: Any = copy.deepcopy(critic)
    assert isinstance(twin, AttentionCritic)
    options = twin.config
    grid = patch_grid(twin.shape, options["patch"], "composed")
    body = Patches(grid, options["width"], options["heads"], options["layers"], mix)
    body.load_state_dict(twin.body.state_dict())
    twin.body = body.to(twin.head.weight)
    return twin


def for_forward_mode(critic: nn.Module) -> nn.Module:
    """Return a copy of an attention critic whose forward-mode derivative can be differentiated.

    In PyTorch 2.13 that of softmax overwrites what its backward pass needs, and that of layer
    normalisation has a wrong gradient: it takes mean and deviation as constants.
    """
    twin = composed(critic, attend_by_exponentials)
    for module in twin.modules():
        if isinstance(module, nn.LayerNorm):
            vars(module)["forward"] = partial(normalise_by_moments, module)
    return twin


def double_backward(critic: nn.Module, x: Tensor) -> Tensor:
    """Return scores whose gradient in the weights takes a second-order pass."""
    return Score(critic, GradientNorm()).value(x)


def by_difference(nodes: Nodes, step: float, critic: nn.Module, x: Tensor) -> Tensor:
    """Return scores whose gradient in the weights is that of a difference quotient."""
    f, n, u = _unit_gradient(critic, x)
    points = [x + node * step * u for node, _, _ in nodes]
    values = scores(critic, torch.cat(points)).view(len(nodes), -1)
    weights = values.new_tensor(nodes)
    derivative = (weights[:, 1, None] * values).sum(0) / step
    value = (weights[:, 2, None] * values).sum(0)
    return _score(f, n, value, derivative)


def by_forward_mode(critic: nn.Module, x: Tensor) -> Tensor:
    """Return scores whose gradient in the weights is that of a forward-mode derivative."""
    f, n, u = _unit_gradient(critic, x)
    with forward_ad.dual_level():
        dual = scores(critic, forward_ad.make_dual(x, u))
        value, derivative = forward_ad.unpack_dual(dual)
    assert derivative is not None
    return _score(f, n, value, derivative)


def _unit_gradient(critic: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    f, g = differentiate(critic, x, create_graph=False)
    n = norms(g)
    return f, n, g / per_row(n, x)


def _score(f: Tensor, n: Tensor, value: Tensor, derivative: Tensor) -> Tensor:
    """Return GN's score with the gradients of a value and of a derivative along u."""
    rule = GradientNorm()
    slope = rule.slope(f, n)
    slope_of_norm = slope * rule.lever(f, n) * n
    change = slope * (value - value.detach()) + slope_of_norm * (derivative - derivative.detach())
    return rule(f, n) + change
