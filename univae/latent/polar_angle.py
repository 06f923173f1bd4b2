r"""The polar angle of a von Mises-Fisher draw, by inverting its distribution function on a grid.

The grid has ``NODES`` nodes a concentration around the mode; nothing of it is stored in a
checkpoint.

References:
    Implicit Reparameterization Gradients (Figurnov et al., 2018), https://arxiv.org/abs/1805.08498
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["polar_angle"]

NODES = 1024  # a piecewise linear density on 20 standard deviations: total variation about 1e-5
REACH = 10.0  # standard deviations on each side of the mode; the tails beyond hold less than 1e-10
# fixed concentrations of up to so many values keep their grid: 32 kB a value, at most 32 grids
CACHED = 16


def polar_angle(
    concentration: Float[Tensor, "*#shape"], uniforms: Float[Tensor, "*shape"], dim: int
) -> Float[Tensor, "*shape"]:
    r"""Invert :math:`F(\theta) = u` for :math:`f(\theta) \propto e^{\kappa \cos\theta} \sin^{d-2}\theta`, in float64.

    The gradient in the concentration is :math:`d\theta / d\kappa = -(\partial F / \partial \kappa)
    / f`.
    """
    return _PolarAngle.apply(concentration, uniforms.to(torch.float64), dim)


class _PolarAngle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kappa: Tensor, uniforms: Tensor, dim: int) -> Tensor:
        padded = (1,) * (uniforms.ndim - kappa.ndim) + tuple(kappa.shape)
        # what kappa varies along, first
        order = sorted(range(uniforms.ndim), key=lambda axis: padded[axis] == 1)
        permuted = uniforms.permute(order)
        rows = permuted.reshape(
            kappa.numel(), uniforms.numel() // max(kappa.numel(), 1)
        ).contiguous()
        learned = ctx.needs_input_grad[0]
        theta, slope = _invert(_grid_of(kappa, dim, learned, rows.device), rows, learned)
        theta, slope = (
            t.reshape(permuted.shape).permute(np.argsort(order).tolist()) for t in (theta, slope)
        )
        ctx.save_for_backward(slope, kappa)
        return theta

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        slope, kappa = ctx.saved_tensors
        return (grad * slope).sum_to_size(kappa.shape).to(kappa), None, None


class _Grid(NamedTuple):
    """Nodes of the polar angle, one row a concentration; the density is linear between nodes."""

    theta: Tensor
    step: Tensor
    density: Tensor
    cdf: Tensor


def _grid_of(kappa: Tensor, dim: int, learned: bool, device: torch.device) -> _Grid:
    if learned or not kappa.is_cpu or kappa.numel() > CACHED:
        return _grid(kappa.reshape(-1).to(device, torch.float64), dim)
    return _Grid(*(t.to(device) for t in _fixed_grid(tuple(kappa.reshape(-1).tolist()), dim)))


@lru_cache(maxsize=32)
def _fixed_grid(kappas: tuple[float, ...], dim: int) -> _Grid:
    return _grid(torch.tensor(kappas, dtype=torch.float64, device="cpu"), dim)


def _grid(kappa: Float[Tensor, "R"], dim: int) -> _Grid:
    r"""Tabulate the density and CDF of :math:`\theta` around the mode, where :math:`-(\log f)'' = h`.

    .. math:: h = \sqrt{(d-2)^2 + 4 \kappa^2}, \qquad \tan\theta^* = \sqrt{2 (d-2) (d-2+h)} / (2 \kappa)
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
    log_f = k * theta.cos() + torch.special.xlogy(t, theta.sin().clamp(min=0))
    f = (log_f - log_f.amax(-1, keepdim=True)).exp()
    cdf = _integral(f, step)
    return _Grid(theta, step, f / cdf[:, -1:], cdf / cdf[:, -1:])


def _integral(f: Float[Tensor, "R nodes"], step: Float[Tensor, "R 1"]) -> Float[Tensor, "R nodes"]:
    trapezoids = (f[:, 1:] + f[:, :-1]) * step / 2
    return torch.nn.functional.pad(trapezoids.cumsum(-1), (1, 0))


def _invert(
    grid: _Grid, u: Float[Tensor, "R M"], learned: bool
) -> tuple[Float[Tensor, "R M"], Float[Tensor, "R M"]]:
    r"""Solve :math:`f_i s + \tfrac12 f_i' s^2 = u - F_i` in the cell of each :math:`u`; and, if asked, the slope.

    .. math:: \frac{d\theta}{d\kappa} = -\frac{1}{f(\theta)} \int_0^\theta (\cos t - A) f(t)\, dt
    """
    left = (torch.searchsorted(grid.cdf, u) - 1).clamp(0, NODES - 2)
    tiny = torch.finfo(u.dtype).tiny
    f, bend = _line(grid.density, grid.step, left)
    rest = (u - grid.cdf.gather(-1, left)).clamp(min=0)
    s = 2 * rest / (f + (f.square() + 2 * bend * rest).clamp(min=0).sqrt()).clamp(min=tiny)
    theta = grid.theta.gather(-1, left) + s
    if not learned:
        return theta, theta
    cos = grid.theta.cos()
    tilted = (cos - _integral(cos * grid.density, grid.step)[:, -1:]) * grid.density
    g, g_bend = _line(tilted, grid.step, left)
    moved = _integral(tilted, grid.step).gather(-1, left) + g * s + g_bend * s.square() / 2
    return theta, -moved / (f + bend * s).clamp(min=tiny)


def _line(
    values: Float[Tensor, "R nodes"], step: Float[Tensor, "R 1"], left: Int64[Tensor, "R M"]
) -> tuple[Float[Tensor, "R M"], Float[Tensor, "R M"]]:
    """Return the value and the slope, in each cell, of the piecewise linear function through ``values``."""
    start = values.gather(-1, left)
    return start, (values.gather(-1, left + 1) - start) / step
