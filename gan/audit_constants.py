r"""Lipschitz constants of single modules, by type: a row of :data:`CONSTANTS` for each.

A constant L has :math:`\|a(x) - a(y)\| \le L \|x - y\|` for all x and y of the shape of a call, in
evaluation mode. A type without a row has no constant: nothing is assumed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from gan.normalization.claims import plain_type
from gan.normalization.operator_norms import nonnegative_norm, operator_norm
from univae.errors import InputError

__all__ = ["CONSTANTS", "Call", "ModuleConstant", "lipschitz_constant", "refuse_shape"]

# Other modes of nn.Upsample have negative coefficients.
NONNEGATIVE_MODES = frozenset({"nearest", "nearest-exact", "linear", "bilinear", "trilinear"})


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a module: the shapes of its input and output, with the rows of the batch."""

    module: nn.Module
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


# A Lipschitz constant of a call.
Constant: TypeAlias = Callable[[Call], float]


@dataclass(frozen=True)
class ModuleConstant:
    """A row of :data:`CONSTANTS`."""

    constant: Constant
    sides: int | None = None  # of the images of the input (batch, channels, *sides); None: any


def lipschitz_constant(call: Call) -> float:
    r"""Return a Lipschitz constant of a call, as a function of each row of its batch.

    Raises:
        InputError: there is none for the options of the module or the shape of its input.
    """
    refuse_shape(call)
    return CONSTANTS[plain_type(call.module)].constant(call)


def refuse_shape(call: Call) -> None:
    """Raise :class:`InputError` for an input without a dimension of rows."""
    kind = plain_type(call.module)
    sides = CONSTANTS[kind].sides
    if sides is not None and len(call.input_shape) != sides + 2:
        raise InputError(
            f"{kind.__name__} must take batches of {sides + 2} dimensions; got an input of shape "
            f"{call.input_shape}"
        )


def _non_expansive(call: Call) -> float:
    return 1.0


def _operator(call: Call) -> float:
    return operator_norm(call.module, call.input_shape[1:])


def _nonnegative(call: Call) -> float:
    # Every channel is mapped alike: the norm is that of one.
    return nonnegative_norm(call.module, (1, *call.input_shape[2:]))


def _upsample(call: Call) -> float:
    module = call.module
    assert isinstance(module, nn.Upsample)
    if module.mode not in NONNEGATIVE_MODES:
        raise InputError(f"Upsample of mode {module.mode} has no known Lipschitz constant")
    return _nonnegative(call)


def _leaky_relu(call: Call) -> float:
    assert isinstance(call.module, nn.LeakyReLU)
    return max(1.0, abs(call.module.negative_slope))


def _prelu(call: Call) -> float:
    assert isinstance(call.module, nn.PReLU)
    return max(1.0, call.module.weight.abs().max().item())


def _flatten(call: Call) -> float:
    assert isinstance(call.module, nn.Flatten)
    return _within_rows(call, call.module.start_dim)


def _unflatten(call: Call) -> float:
    assert isinstance(call.module, nn.Unflatten)
    dim = call.module.dim
    if not isinstance(dim, int):
        raise InputError(f"Unflatten must have the number of a dimension; got dim={dim!r}")
    return _within_rows(call, dim)


def _within_rows(call: Call, dim: int) -> float:
    if dim % len(call.input_shape) == 0:
        raise InputError(f"{type(call.module).__name__} mixes the rows of a batch: got dim={dim}")
    return 1.0


def _max_pool(call: Call) -> float:
    module = call.module
    assert isinstance(module, nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d)
    sides = len(call.input_shape) - 2
    options = (module.kernel_size, module.stride, module.padding, module.dilation)
    kernel, stride, padding, dilation = (_per_side(value, sides) for value in options)
    windows = []
    for axis in range(sides):
        taps = dilation[axis] * torch.arange(kernel[axis]) - padding[axis]
        starts = stride[axis] * torch.arange(call.output_shape[axis + 2])
        windows.append((starts[:, None] + taps).flatten())
    return _largest_overlap(call, windows)


def _adaptive_max_pool(call: Call) -> float:
    windows = []
    for size_in, size_out in zip(call.input_shape[2:], call.output_shape[2:], strict=True):
        ranges = []
        for index in range(size_out):
            start = index * size_in // size_out
            end = -(-(index + 1) * size_in // size_out)
            ranges.append(torch.arange(start, end))
        windows.append(torch.cat(ranges))
    return _largest_overlap(call, windows)


def _largest_overlap(call: Call, windows: list[torch.Tensor]) -> float:
    r"""Return the root of the largest number of windows of one place.

    :math:`|\max_W x - \max_W y| \le \max_{i \in W} |x_i - y_i|`, and a place in c windows is
    counted c times in the sum of their squares. A place above all others attains it.
    """
    overlap = 1
    for size, places in zip(call.input_shape[2:], windows, strict=True):
        inside = places[(places >= 0) & (places < size)]
        overlap *= int(inside.bincount().max())
    return math.sqrt(overlap)


def _per_side(value: int | tuple[int, ...], sides: int) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * sides


CONSTANTS: dict[type[nn.Module], ModuleConstant] = {
    nn.Linear: ModuleConstant(_operator),
    nn.Conv1d: ModuleConstant(_operator, 1),
    nn.Conv2d: ModuleConstant(_operator, 2),
    nn.Conv3d: ModuleConstant(_operator, 3),
    nn.Identity: ModuleConstant(_non_expansive),
    nn.Dropout: ModuleConstant(_non_expansive),
    nn.Dropout2d: ModuleConstant(_non_expansive),
    nn.ReLU: ModuleConstant(_non_expansive),
    nn.ReLU6: ModuleConstant(_non_expansive),
    nn.Tanh: ModuleConstant(_non_expansive),
    nn.LeakyReLU: ModuleConstant(_leaky_relu),
    nn.PReLU: ModuleConstant(_prelu),
    nn.Flatten: ModuleConstant(_flatten),
    nn.Unflatten: ModuleConstant(_unflatten),
    nn.PixelShuffle: ModuleConstant(_non_expansive, 2),
    nn.PixelUnshuffle: ModuleConstant(_non_expansive, 2),
    nn.ZeroPad2d: ModuleConstant(_nonnegative, 2),
    nn.ReflectionPad2d: ModuleConstant(_nonnegative, 2),
    nn.ReplicationPad2d: ModuleConstant(_nonnegative, 2),
    nn.AvgPool1d: ModuleConstant(_nonnegative, 1),
    nn.AvgPool2d: ModuleConstant(_nonnegative, 2),
    nn.AvgPool3d: ModuleConstant(_nonnegative, 3),
    nn.AdaptiveAvgPool1d: ModuleConstant(_nonnegative, 1),
    nn.AdaptiveAvgPool2d: ModuleConstant(_nonnegative, 2),
    nn.MaxPool1d: ModuleConstant(_max_pool, 1),
    nn.MaxPool2d: ModuleConstant(_max_pool, 2),
    nn.MaxPool3d: ModuleConstant(_max_pool, 3),
    nn.AdaptiveMaxPool2d: ModuleConstant(_adaptive_max_pool, 2),
    nn.Upsample: ModuleConstant(_upsample),
}
