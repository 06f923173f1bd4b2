r"""The polar angle of a von Mises-Fisher sample, by inverting its CDF on a grid.

The grid has ``NODES`` nodes a concentration around the mode. It is not stored in checkpoints.

References:
    Implicit Reparameterization Gradients (Figurnov et al., 2018), https://arxiv.org/abs/1805.08498
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["polar_angle"]

NODES = 1024  # a piecewise linear density on 20 standard deviations: total variation about 1e-5
REACH = 10.0  # standard deviations on each side of the mode; the tails beyond hold less than 1e-10
CACHED = 16  # most fixed concentrations whose grid is cached: 32 kB each
CACHE_SIZE = 32  # grids

Context: TypeAlias = Any  # of an autograd.Function; torch declares no type for it


def polar_angle(
    concentration: Float[Tensor, "*#shape"], uniforms: Float[Tensor, "*shape"], dim: int
) -> Float[Tensor, "*shape"]:
    r"""Return :math:`\theta = F^{-1}(u)` in float64, F the CDF of the angle to the mean direction.

    The angle has the density :math:`f(\theta) \propto e^{\kappa \cos\theta} \sin^{d-2}\theta`. The
    gradient in the concentration is :math:`d\theta / d\kappa = -\partial_\kappa F / f`.
    """
    return _polar_angle(concentration, uniforms.to(torch.float64), dim)


class _PolarAngle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, kappa: Tensor, uniforms: Tensor, dim: int) -> Tensor:
        padded = (1,) * (uniforms.ndim - kappa.ndim) + tuple(kappa.shape)
        # The axes along which kappa varies come first.
        order = sorted(range(uniforms.ndim), key=lambda axis: padded[axis] == 1)
        inverse_order = np.argsort(order).tolist()
        permuted = uniforms.permute(order)
        count = uniforms.numel() // max(kappa.numel(), 1)
        rows = permuted.reshape(kappa.numel(), count).contiguous()

        learned = ctx.needs_input_grad[0]
        grid = _grid_of(kappa, dim, rows.device, learned=learned)
        theta, slope = _invert(grid, rows, learned=learned)
        slope = slope.reshape(permuted.shape).permute(inverse_order)
        ctx.save_for_backward(slope, kappa)
        return theta.reshape(permuted.shape).permute(inverse_order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, None, None]:
        slope, kappa = ctx.saved_tensors
        return (grad * slope).sum_to_size(kappa.shape).to(kappa), None, None


_polar_angle: Callable[[Tensor, Tensor, int], Tensor] = _PolarAngle.apply


class _Grid(NamedTuple):
    """Nodes of the polar angle, one row a concentration; the density is linear between nodes."""

    theta: Tensor
    step: Tensor
    density: Tensor
    cdf: Tensor


def _grid_of(kappa: Tensor, dim: int, device: torch.device, *, learned: bool) -> _Grid:
    if learned or not kappa.is_cpu or kappa.numel() > CACHED:
        return _grid(kappa.reshape(-1).to(device, torch.float64), dim)
    grid = _fixed_grid(tuple(kappa.reshape(-1).tolist()), dim)
    return _Grid(*(tensor.to(device) for tensor in grid))


@lru_cache(maxsize=CACHE_SIZE)
def _fixed_grid(kappas: tuple[float, ...], dim: int) -> _Grid:
    return _grid(torch.tensor(kappas, dtype=torch.float64, device="cpu"), dim)


def _grid(kappa: Float[Tensor, "R"], dim: int) -> _Grid:
    r"""Tabulate density and CDF of :math:`\theta` around its mode :math:`\theta^*`.

    .. math:: h = -(\log f)''(\theta^*) = \sqrt{(d-2)^2 + 4 \kappa^2},
              \qquad \tan\theta^* = \sqrt{2 (d-2) (d-2+h)} / (2 \kappa)
    """
    k = kappa.unsqueeze(-1)
    t = dim - 2
    h = (t**2 + 4 * k.square()).sqrt()
    mode = torch.atan2((2 * t * (t + h)).sqrt(), 2 * k)
    reach = REACH / h.sqrt()
    low = (mode - reach).clamp(min=0)
    high = (mode + reach).clamp(max=math.pi)
    step = (high - low) / (NODES - 1)
    theta = low + step * torch.arange(NODES, device=k.device)
    log_f = k * _cosine_less_one(theta) + torch.special.xlogy(t, theta.sin().clamp(min=0))
    f = (log_f - log_f.amax(-1, keepdim=True)).exp()
    cdf = _integral(f, step)
    return _Grid(theta, step, f / cdf[:, -1:], cdf / cdf[:, -1:])


def _cosine_less_one(theta: Tensor) -> Tensor:
    r"""Return :math:`\cos\theta - 1`, which loses no digits at small angles."""
    return -2 * (theta / 2).sin().square()


def _integral(f: Float[Tensor, "R nodes"], step: Float[Tensor, "R 1"]) -> Float[Tensor, "R nodes"]:
    trapezoids = (f[:, 1:] + f[:, :-1]) * step / 2
    return torch.nn.functional.pad(trapezoids.cumsum(-1), (1, 0))


def _invert(
    grid: _Grid, u: Float[Tensor, "R M"], *, learned: bool
) -> tuple[Float[Tensor, "R M"], Float[Tensor, "R M"]]:
    r"""Return :math:`\theta` and its derivative in :math:`\kappa`, computed only if ``learned``.

    In the cell of each :math:`u`, :math:`f_i s + \tfrac12 f_i' s^2 = u - F_i` is solved for s.

    .. math:: \frac{d\theta}{d\kappa} = -\frac{1}{f(\theta)} \int_0^\theta (\cos t - A) f(t)\, dt
    """
    left = (torch.searchsorted(grid.cdf, u) - 1).clamp(0, NODES - 2)
    tiny = torch.finfo(u.dtype).tiny
    f, f_slope = _line(grid.density, grid.step, left)
    rest = (u - grid.cdf.gather(-1, left)).clamp(min=0)
    s = 2 * rest / (f + (f.square() + 2 * f_slope * rest).clamp(min=0).sqrt()).clamp(min=tiny)
    theta = grid.theta.gather(-1, left) + s
    if not learned:
        return theta, theta
    cosine = _cosine_less_one(grid.theta)
    mean = _integral(cosine * grid.density, grid.step)[:, -1:]
    tilted = (cosine - mean) * grid.density
    g, g_slope = _line(tilted, grid.step, left)
    integral = _integral(tilted, grid.step).gather(-1, left) + g * s + g_slope * s.square() / 2
    return theta, -integral / (f + f_slope * s).clamp(min=tiny)


def _line(
    values: Float[Tensor, "R nodes"], step: Float[Tensor, "R 1"], left: Int64[Tensor, "R M"]
) -> tuple[Float[Tensor, "R M"], Float[Tensor, "R M"]]:
    """Return value and slope, in cell ``left``, of the line segments through ``values``."""
    start = values.gather(-1, left)
    return start, (values.gather(-1, left + 1) - start) / step
