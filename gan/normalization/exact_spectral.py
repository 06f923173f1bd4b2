r"""Weights over the exact norm of their layer, which is 1 while the weights are trained.

A step of power iteration per pass does not follow the weights. Here each pass restarts a Lanczos
iteration from the singular vector of the pass before, until its norm stands still. Its residual,
which the iteration goes on from, is what the last update has changed.
"""

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from univae.dtypes import at_least_float32, autocast
from univae.errors import InputError

__all__ = ["ConvolutionNorm", "LinearNorm"]

KRYLOV_STEPS = 8  # of one Lanczos iteration, before it restarts
MAX_RESTARTS = 20
ROUNDING = 100  # relative size of a vector, in units of the precision, that is rounding error
TOLERANCE = 3e-6  # relative growth of the norm in a restart that is the last one


class ConvolutionNorm(nn.Module):
    """A parametrisation that divides a convolution's weight by its norm on images of one size.

    Args:
        conv: the convolution, padded by a number of zeros.
        shape: (channels, height, width) of its input.

    Raises:
        InputError: the convolution has another padding.
    """

    v: Tensor

    def __init__(self, conv: nn.Conv2d, shape: tuple[int, ...]) -> None:
        super().__init__()
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise InputError(
                "spectral_normalize: an exact norm needs padding by a number of zeros; got "
                f"padding={conv.padding!r} of mode {conv.padding_mode}"
            )
        self._stride = conv.stride
        self._padding = conv.padding
        self._dilation = conv.dilation
        self._groups = conv.groups
        self.register_buffer("v", _unit(torch.randn(1, *shape)).to(conv.weight))
        with torch.no_grad():
            self.v.copy_(_singular_vector(self, self.v, at_least_float32(conv.weight)))

    def forward(
        self, weight: Float[Tensor, "out into height width"]
    ) -> Float[Tensor, "out into height width"]:
        """Return ``weight`` over its operator norm, computed in at least float32.

        In training the singular vector is kept for the next pass.
        """
        normalized, v, _ = _normalize(self, self.v, weight)
        if self.training:
            self.v.copy_(v)
        return normalized

    def apply_to(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution of images (1, channels, height, width)."""
        return F.conv2d(x, weight, None, self._stride, self._padding, self._dilation, self._groups)

    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """Return the adjoint of the convolution, applied to one of its results."""
        image: Tensor = conv2d_input(
            self.v.shape, weight, y, self._stride, self._padding, self._dilation, self._groups
        )
        return image


class LinearNorm(nn.Module):
    """A parametrisation that divides the weight of a linear layer by its largest singular value.

    Its state is that of :func:`torch.nn.utils.parametrizations.spectral_norm`.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("_u", torch.zeros(linear.out_features).to(linear.weight))
        self.register_buffer("_v", _unit(torch.randn(linear.in_features)).to(linear.weight))
        with torch.no_grad():
            weight = at_least_float32(linear.weight)
            v = _singular_vector(self, self._v[None], weight)
            self._keep(v, _unit(self.apply_to(v, weight)))

    def forward(self, weight: Float[Tensor, "out into"]) -> Float[Tensor, "out into"]:
        """Return ``weight`` over its norm; see :meth:`ConvolutionNorm.forward`."""
        normalized, v, u = _normalize(self, self._v[None], weight)
        if self.training:
            self._keep(v, u)
        return normalized

    def apply_to(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the rows of ``x`` times the matrix."""
        return F.linear(x, weight)

    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        """Return the rows of ``y`` times the transposed matrix."""
        return y @ weight

    def _keep(self, v: Tensor, u: Tensor) -> None:
        self._v.copy_(v[0])
        self._u.copy_(u[0])


@runtime_checkable
class _LinearMap(Protocol):
    """A map of rows (1, ...) that is linear in them and in the weight."""

    def apply_to(self, x: Tensor, weight: Tensor) -> Tensor: ...

    def adjoint(self, y: Tensor, weight: Tensor) -> Tensor: ...


def _normalize(layer: _LinearMap, start: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight over its norm, and the singular vectors v and u, without gradients."""
    with autocast(weight.device, enabled=False):
        precise_weight = at_least_float32(weight)
        with torch.no_grad():
            v = _singular_vector(layer, start, precise_weight)
            u = _unit(layer.apply_to(v, precise_weight))
        norm = (u * layer.apply_to(v, precise_weight)).sum()
        return (precise_weight / norm).to(weight.dtype), v, u


def _singular_vector(layer: _LinearMap, start: Tensor, weight: Tensor) -> Tensor:
    r"""Return the v of the largest :math:`\|A v\|`, a new tensor, from a vector near it."""
    v = start.to(weight, copy=True)
    if weight.is_meta or not weight.isfinite().all():  # meta: a module without memory
        return v
    for _ in range(MAX_RESTARTS):
        previous_norm = torch.linalg.vector_norm(layer.apply_to(v, weight))
        v = _restart(layer, v, weight)
        norm = torch.linalg.vector_norm(layer.apply_to(v, weight))
        if norm <= (1 + TOLERANCE) * previous_norm:
            break
    return v


def _restart(layer: _LinearMap, v: Tensor, weight: Tensor) -> Tensor:
    r"""Return the vector of the largest norm in the space of :math:`(A^T A)^m v`, m at most 8.

    The rows Q are an orthonormal basis of the space (Lanczos); the vector is their combination by
    the last eigenvector of :math:`Q A^T A Q^T`.
    """
    basis = [_unit(v)]
    images = [layer.apply_to(basis[0], weight)]
    for _ in range(KRYLOV_STEPS):
        direction = layer.adjoint(images[-1], weight)
        basis.append(_orthogonal(direction, torch.cat(basis).flatten(1)))
        images.append(layer.apply_to(basis[-1], weight))
    image_rows = torch.cat(images).flatten(1)
    combination = torch.linalg.eigh(image_rows @ image_rows.T).eigenvectors[:, -1]
    return _unit((combination @ torch.cat(basis).flatten(1)).view_as(v))


def _orthogonal(direction: Tensor, rows: Tensor) -> Tensor:
    """Return the unit vector along the part of a direction that is orthogonal to orthonormal rows.

    It is 0 where that part is rounding error: the space is complete.
    """
    residual = direction
    for _ in range(2):  # once would leave rounding errors of nearly parallel vectors
        residual = residual - (rows.T @ (rows @ residual.flatten())).view_as(residual)
    smallest = ROUNDING * torch.finfo(direction.dtype).eps * torch.linalg.vector_norm(direction)
    is_new = torch.linalg.vector_norm(residual) > smallest
    return torch.where(is_new, _unit(residual), 0.0)


def _unit(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)
    return x / norm.clamp_min(torch.finfo(x.dtype).tiny)
