r"""Upper bounds of the operator norms of linear layers, convolutions and non-negative maps.

A power iteration ends below the norm, so that it proves nothing. Here a small operator is a matrix,
whose norm is exact. A larger convolution is a part of a convolution on a torus, of norm
:math:`\max_\omega \|A(\omega)\|` (:mod:`gan.normalization.convolution_symbol`). A map with
coefficients of one sign has the bound of Collatz and Wielandt.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.normalization.claims import plain_type
from gan.normalization.convolution_symbol import torus_norm
from gan.normalization.module_types import WEIGHTED
from univae.errors import InputError

__all__ = ["ROUNDING", "is_measurable", "nonnegative_norm", "operator_norm"]

# Factor above the relative rounding error of an eigenvalue in float64.
ROUNDING = 1 + 1e-9
# An operator up to this size is a matrix: its smaller side, and the number of its entries.
DENSE_SIDE = 1024
DENSE_ENTRIES = 2**23

# Power iterations of a non-negative map, and the offset that keeps the iterate positive.
POSITIVE_STEPS = 100
POSITIVE_OFFSET = 1e-6

# A linear map of inputs (batch, *shape) of one shape.
LinearMap = Callable[[Tensor], Tensor]


@torch.no_grad()
def operator_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    r"""Return an upper bound of the norm of a layer without bias, on inputs (batch, \*shape).

    In float64, and not a number for a weight that is not finite. It is the norm itself, up to
    rounding, for a linear layer and for a convolution whose input or output has at most 1024
    numbers. A larger convolution padded by zeros has at most 5 % more than its norm, with kernels
    of 3 or 4 on images of 8 x 8 or more; with another padding it has the norm of that padding as a
    factor.

    Raises:
        InputError: the layer is neither linear nor a convolution, or takes inputs of another shape.
    """
    if not is_measurable(layer):
        raise InputError(
            f"operator_norm: takes linear layers and convolutions; got {type(layer).__name__}"
        )
    assert isinstance(layer, WEIGHTED)
    weight = layer.weight.detach().double()
    if not weight.isfinite().all():
        return math.nan
    if isinstance(layer, nn.Linear):
        return ROUNDING * float(torch.linalg.matrix_norm(weight, 2))

    if len(shape) != len(layer.kernel_size) + 1:
        raise InputError(
            f"operator_norm: {type(layer).__name__} takes rows of {len(layer.kernel_size) + 1} "
            f"dimensions, channels first; got shape={shape}"
        )
    return ROUNDING * _convolution_norm(layer, weight, shape)


def is_measurable(layer: nn.Module) -> bool:
    """Return whether a layer is a linear layer or a convolution of torch."""
    return plain_type(layer) in WEIGHTED


def nonnegative_norm(function: LinearMap, shape: tuple[int, ...]) -> float:
    r"""Return an upper bound of the norm of a linear map whose coefficients have one sign.

    For :math:`B = A^T A \ge 0` and every positive v, :math:`\|A\|^2 \le \max_i (B v)_i / v_i`
    (Collatz and Wielandt); v is the iterate of a power iteration from ones, where the bound is at
    most :math:`\|A\|_1 \|A\|_\infty`.

    Args:
        function: the map of inputs (1, \*shape), in float64 on the CPU.
        shape: the shape of one row.
    """
    v = torch.ones(1, *shape, dtype=torch.float64)
    adjoint = torch.func.vjp(function, v)[1]
    squared_bound = math.inf
    for _ in range(POSITIVE_STEPS):
        (image,) = adjoint(function(v))
        largest = image.max()
        squared_bound = min(squared_bound, (image / v).max().item())
        if largest == 0:
            break
        v = image / largest + POSITIVE_OFFSET
    return ROUNDING * math.sqrt(squared_bound)


def _convolution_norm(
    layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, weight: Tensor, shape: tuple[int, ...]
) -> float:
    def convolve(x: Tensor) -> Tensor:
        image: Tensor = layer._conv_forward(x, weight, None)
        return image

    row = torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device)
    inputs = row.numel()
    outputs = convolve(row).numel()
    if min(inputs, outputs) <= DENSE_SIDE and inputs * outputs <= DENSE_ENTRIES:
        return _dense_norm(convolve, row, outputs)

    padding = layer._reversed_padding_repeated_twice
    spatial = shape[1:]
    pads = [(padding[i], padding[i + 1]) for i in reversed(range(0, len(padding), 2))]
    if layer.padding_mode == "zeros":
        return torus_norm(weight, spatial, pads, layer.stride, layer.dilation, layer.groups)

    def pad(x: Tensor) -> Tensor:
        return F.pad(x, padding, mode=layer.padding_mode)

    padded = pad(row).shape[2:]
    no_pads = [(0, 0)] * len(spatial)
    valid_norm = torus_norm(weight, padded, no_pads, layer.stride, layer.dilation, layer.groups)
    return valid_norm * nonnegative_norm(pad, (1, *spatial))


def _dense_norm(function: LinearMap, row: Tensor, outputs: int) -> float:
    """Return the norm of a linear map by the matrix of its smaller side."""
    inputs = row.numel()
    if inputs <= outputs:
        basis = torch.eye(inputs, dtype=row.dtype, device=row.device)
        matrix = function(basis.view(inputs, *row.shape[1:])).flatten(1)
    else:
        origin = row.expand(outputs, *row.shape[1:])
        adjoint = torch.func.vjp(function, origin)[1]
        basis = torch.eye(outputs, dtype=row.dtype, device=row.device)
        (columns,) = adjoint(basis.view_as(function(origin)))
        matrix = columns.flatten(1)
    largest = torch.linalg.eigvalsh(matrix @ matrix.T)[-1]
    return math.sqrt(max(largest.item(), 0.0))
