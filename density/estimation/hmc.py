r"""Hamiltonian Monte Carlo, vectorised over chains and data, with a step size for each datum.

References:
    MCMC using Hamiltonian dynamics (Neal, 2011), https://arxiv.org/abs/1206.1901 The Optimal Tuning
    of the Hybrid Monte-Carlo Algorithm (Beskos et al., 2010), https://arxiv.org/abs/1001.4460
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["LEAPFROGS", "transition", "tuned"]

LEAPFROGS = 10
ACCEPTANCE = 0.65  # the optimum in many dimensions
GAIN = 0.2  # of the logarithm of the step size per unit of acceptance


def transition(
    log_density: Callable[[Tensor], Tensor],
    z: Float[Tensor, "chains B *event"],
    step_size: Float[Tensor, "B"],
) -> tuple[Float[Tensor, "chains B *event"], Float[Tensor, "chains B"]]:
    r"""Move every chain once, leaving ``log_density`` invariant; returns it with the probability that it moved.

    .. math:: p \sim \mathcal{N}(0, I), \qquad (z', p') = \text{10 leapfrogs of size } \epsilon, \qquad
              a = \min(1, e^{H(z, p) - H(z', p')}), \qquad H = \|p\|^2 / 2 - \log f(z)

    A proposal whose energy is no number is not accepted.
    """
    size = step_size.view(-1, *[1] * (z.dim() - 2)).to(z.dtype)
    momentum = torch.randn_like(z)
    value, slope = _value_and_slope(log_density, z)
    before = value - _kinetic(momentum)
    moved = z
    for _ in range(LEAPFROGS):
        momentum = momentum + size / 2 * slope
        moved = moved + size * momentum
        value, slope = _value_and_slope(log_density, moved)
        momentum = momentum + size / 2 * slope
    probability = (value - _kinetic(momentum) - before).clamp_max(0).exp().nan_to_num(0.0)
    accepted = torch.rand_like(probability) < probability
    return torch.where(accepted.view(*accepted.shape, *[1] * (z.dim() - 2)), moved, z), probability


def tuned(
    step_size: Float[Tensor, "B"], probability: Float[Tensor, "chains B"]
) -> Float[Tensor, "B"]:
    """Lengthen the step of the data whose chains move more often than 0.65, and shortens that of the others."""
    return step_size * (GAIN * (probability.mean(0).to(step_size) - ACCEPTANCE)).exp()


def _value_and_slope(log_density: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        value = log_density(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


def _kinetic(momentum: Float[Tensor, "chains B *event"]) -> Float[Tensor, "chains B"]:
    return momentum.flatten(2).square().sum(-1) / 2 if momentum.dim() > 2 else momentum.square() / 2
