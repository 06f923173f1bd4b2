r"""The weight of a convolution over its operator norm, kept at 1 while the weight is trained.

A step of power iteration per pass does not follow the weight: with Adam at a learning rate of 1e-3
the norm of a critic's layer was measured at up to 1.15. Here each pass restarts a Lanczos iteration
from the singular vector of the pass before, until its norm stands still. Its residual, which the
iteration starts from, is what the last update has changed.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["OperatorNorm"]

KRYLOV_STEPS = 8  # of one Lanczos iteration, before it restarts
MAX_RESTARTS = 20
TOLERANCE = 3e-6  # relative growth of the norm in a restart that is the last one


class OperatorNorm(nn.Module):
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
            self.v.copy_(self._singular_vector(at_least_float32(conv.weight)))

    def forward(
        self, weight: Float[Tensor, "out into height width"]
    ) -> Float[Tensor, "out into height width"]:
        """Return ``weight`` over its operator norm, computed in at least float32.

        In training the singular vector is kept for the next pass.
        """
        with torch.autocast(weight.device.type, enabled=False):
            precise_weight = at_least_float32(weight)
            with torch.no_grad():
                # Not the buffer: a later pass may change it before the backward pass of this one.
                v = self._singular_vector(precise_weight)
                u = _unit(self._convolve(v, precise_weight))
                if self.training:
                    self.v.copy_(v)
            norm = (u * self._convolve(v, precise_weight)).sum()
            return (precise_weight / norm).to(weight.dtype)

    def _singular_vector(self, weight: Tensor) -> Tensor:
        r"""Return the v of the largest :math:`\|w * v\|`, from the one that is kept."""
        v = self.v.to(weight, copy=True)
        if not weight.isfinite().all():
            return v
        for _ in range(MAX_RESTARTS):
            previous_norm = torch.linalg.vector_norm(self._convolve(v, weight))
            v = self._restart(v, weight)
            norm = torch.linalg.vector_norm(self._convolve(v, weight))
            if norm <= (1 + TOLERANCE) * previous_norm:
                break
        return v

    def _restart(self, v: Tensor, weight: Tensor) -> Tensor:
        r"""Return the vector of the largest norm in the space of :math:`(A^T A)^m v`, m at most 8.

        The rows Q are an orthonormal basis of the space (Lanczos); the vector is their combination
        by the last eigenvector of :math:`Q A^T A Q^T`.
        """
        basis = [v]
        images = [self._convolve(v, weight)]
        for _ in range(KRYLOV_STEPS):
            direction = self._adjoint(images[-1], weight)
            rows = torch.cat(basis).flatten(1)
            for _ in range(2):  # once would leave rounding errors of nearly parallel vectors
                projection = rows.T @ (rows @ direction.flatten())
                direction = _unit(direction - projection.view_as(direction))
            basis.append(direction)
            images.append(self._convolve(direction, weight))
        image_rows = torch.cat(images).flatten(1)
        combination = torch.linalg.eigh(image_rows @ image_rows.T).eigenvectors[:, -1]
        return _unit((combination @ torch.cat(basis).flatten(1)).view_as(v))

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, self._stride, self._padding, self._dilation, self._groups)

    def _adjoint(self, y: Tensor, weight: Tensor) -> Tensor:
        adjoint: Tensor = conv2d_input(
            self.v.shape, weight, y, self._stride, self._padding, self._dilation, self._groups
        )
        return adjoint


def _unit(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)
    return x / norm.clamp_min(torch.finfo(x.dtype).tiny)
