r"""Unnormalised exponentiated gradients for step sizes: a scale per tensor, a gain per coordinate.

A step size is multiplied by the exponential of minus a rate times the derivative of the loss by its
logarithm, so it stays positive. With signs and cosines in place of raw products the updates do not
depend on the gradient's magnitude: a gain changes by a factor of at most :math:`e^{\gamma_n}` a
step.

References:
    Step-size Adaptation Using Exponentiated Gradient Updates (Amid et al., 2022),
    https://arxiv.org/abs/2202.00145
    Learning rates by exponentiated gradients (Su, 2022), https://kexue.fm/archives/8968
"""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from univae.optim.base import State, require

__all__ = ["grow_gains", "grow_scales", "quantiles", "require_rates"]

SMALLEST_GAIN = 1e-2
LARGEST_GAIN = 1e2
SMALLEST_SCALE = 0.1
LARGEST_SCALE = 10.0

SCALE_QUANTILES = {"min": 0.0, "median": 0.5, "max": 1.0}
GAIN_QUANTILES = {"p05": 0.05, "median": 0.5, "p95": 0.95}
LOGGED_GAINS = 1000  # of a tensor; torch.quantile accepts at most 16 million values


def grow_scales(
    scales: list[Tensor],
    grads: list[Tensor],
    directions: list[Tensor],
    rate: float,
    *,
    normalise: bool,
) -> None:
    r"""Multiply each scale by :math:`e^{\gamma \cos(g, m)}`, in place.

    Without ``normalise`` the factor is :math:`e^{\gamma \langle g, m \rangle}`. ``directions`` m
    are the negative of the last step, up to a positive factor: where the gradient still points
    along them the step was too short.
    """
    products = []
    for g, m in zip(grads, directions, strict=True):
        products.append(torch.dot(g.reshape(-1), m.reshape(-1)))
    agreement = torch.stack(products)
    if normalise:
        grad_norms = torch.stack(torch._foreach_norm(grads))
        norms = grad_norms * torch.stack(torch._foreach_norm(directions))
        agreement = agreement / norms.clamp_min(torch.finfo(norms.dtype).tiny)

    updated = torch.stack(scales) * (rate * agreement).exp()
    updated = updated.clamp(SMALLEST_SCALE, LARGEST_SCALE)
    torch._foreach_copy_(scales, list(updated.unbind()))


def grow_gains(
    gains: list[Tensor], grads: list[Tensor], trends: list[Tensor], rate: float, *, signs: bool
) -> None:
    r"""Multiply each gain by :math:`e^{\gamma \operatorname{sign}(g \bar g)}`, in place.

    Without ``signs`` the factor is :math:`e^{\gamma g \bar g}`. ``trends``
    :math:`\bar g`, averages of past gradients, are overwritten.
    """
    torch._foreach_mul_(trends, grads)
    if signs:
        # for a sign s, e^(rate s) = 1 + sinh(rate) (s + tanh(rate / 2) s^2), without an exponential
        # per coordinate
        torch._foreach_sign_(trends)
        torch._foreach_addcmul_(trends, trends, trends, value=math.tanh(rate / 2))
        torch._foreach_addcmul_(gains, gains, trends, value=math.sinh(rate))
    else:
        torch._foreach_mul_(trends, rate)
        torch._foreach_exp_(trends)
        torch._foreach_mul_(gains, trends)
    torch._foreach_clamp_min_(gains, SMALLEST_GAIN)
    torch._foreach_clamp_max_(gains, LARGEST_GAIN)


def require_rates(owner: object, gain_lr: float, scale_lr: float) -> None:
    """Raise :class:`univae.errors.InputError` for rates that are negative or not finite."""
    is_gain_rate = 0 <= gain_lr < float("inf")
    is_scale_rate = 0 <= scale_lr < float("inf")
    require(owner, "gain_lr", gain_lr, "0 (no gains) or more", holds=is_gain_rate)
    require(owner, "scale_lr", scale_lr, "0 (scales stay 1) or more", holds=is_scale_rate)


def quantiles(states: Iterable[State]) -> dict[str, float]:
    """Return quantiles of the ``scale`` and ``gain`` entries of parameters' states, for a log.

    Of scales the smallest, median and largest; of gains the 5%, 50% and 95% quantiles over at most
    1000 a tensor.
    """
    scales = []
    gains = []
    for state in states:
        if "scale" in state:
            scales.append(state["scale"].double())
        if "gain" in state:
            flat = state["gain"].flatten()
            stride = max(1, len(flat) // LOGGED_GAINS)
            gains.append(flat[::stride].double())

    values: dict[str, float] = {}
    if scales:
        values |= _named_quantiles("scale", torch.stack(scales), SCALE_QUANTILES)
    if gains:
        values |= _named_quantiles("gain", torch.cat(gains), GAIN_QUANTILES)
    return values


def _named_quantiles(name: str, values: Tensor, levels: Mapping[str, float]) -> dict[str, float]:
    numbers = values.quantile(values.new_tensor(list(levels.values()))).tolist()
    return {f"{name}_{key}": number for key, number in zip(levels, numbers, strict=True)}
