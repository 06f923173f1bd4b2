"""The precision of computations, and tests of the dtypes of arrays."""

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "as_floating",
    "at_least_float32",
    "autocast",
    "autocast_dtype",
    "computation_dtype",
    "is_float_array",
    "is_integer_array",
    "is_number_array",
    "is_number_dtype",
]


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 where it has fewer bits, otherwise as it is.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    >>> at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype
    torch.float64
    """
    return x.to(computation_dtype(x))


def computation_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that :func:`at_least_float32` converts ``x`` to."""
    return torch.promote_types(x.dtype, torch.float32)


def autocast(
    device: torch.device, dtype: torch.dtype | None = None, *, enabled: bool
) -> AbstractContextManager[object]:
    """Return :class:`torch.autocast` of a device; of one without it, such as ``meta``, nothing."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, dtype, enabled=enabled)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype of an active autocast; None where there is none."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)


def as_floating(x: Tensor) -> Tensor:
    """Return whole numbers and booleans in the default dtype, other tensors as they are.

    >>> as_floating(torch.tensor([1, 2]))
    tensor([1., 2.])
    """
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


# codes of numpy.dtype.kind
INTEGER_KINDS = frozenset("bui")  # booleans, unsigned and signed integers
FLOAT_KINDS = frozenset("f")


def is_integer_array(values: np.ndarray) -> bool:
    """Return whether an array has a dtype of whole numbers; booleans are zeros and ones."""
    return values.dtype.kind in INTEGER_KINDS


def is_float_array(values: np.ndarray) -> bool:
    """Return whether an array has a floating-point dtype."""
    return values.dtype.kind in FLOAT_KINDS


def is_number_dtype(dtype: np.dtype) -> bool:
    """Return whether a dtype is one of real numbers: whole or floating-point."""
    return dtype.kind in INTEGER_KINDS | FLOAT_KINDS


def is_number_array(values: np.ndarray) -> bool:
    """Return whether an array has a dtype of real numbers: whole or floating-point."""
    return is_number_dtype(values.dtype)
