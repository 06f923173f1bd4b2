"""The precision of statistics, losses and parameters of distributions: float32 or wider."""

import torch
from torch import Tensor

__all__ = ["at_least_float32", "computation_dtype"]


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
