"""Devices by the names that options and functions take, and what can be read from their tensors.

The values of a tensor cannot be read on the ``meta`` device, which has none, nor while PyTorch
compiles or exports a function, which holds for all values. Code that is faster for some values, or
refuses some, asks :func:`all_true` and :func:`any_false`: both are False where nothing is known, so
that the general code runs and nothing is refused.
"""

import torch
from torch import Tensor

from univae.errors import InputError

__all__ = ["all_true", "any_false", "is_cuda", "is_readable", "pick_device"]

CUDA = "cuda"  # type of NVIDIA's and AMD's GPUs


def pick_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is the GPU if there is one, else the CPU.

    Raises:
        InputError: the name is none of torch's, or this machine has no such device.
    """
    if name == "auto":
        return torch.device(CUDA if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "cuda" has a name on machines without a GPU, too
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device must be auto, cpu, or a device this machine has; got device={name}"
        ) from error
    return device


def is_cuda(device: torch.device) -> bool:
    """Return whether a device is a GPU with CUDA's interface, as those of ROCm are too."""
    return device.type == CUDA


def all_true(condition: Tensor) -> bool:
    """Return whether all values are true; False where they cannot be read.

    >>> all_true(torch.tensor([True, True])), all_true(torch.ones(2, dtype=bool, device="meta"))
    (True, False)
    """
    return is_readable(condition) and bool(condition.all())


def any_false(condition: Tensor) -> bool:
    """Return whether a value is false; False where they cannot be read.

    >>> any_false(torch.tensor([True, False])), any_false(torch.zeros(2, device="meta"))
    (True, False)
    """
    return is_readable(condition) and not bool(condition.all())


def is_readable(x: Tensor) -> bool:
    """Return whether the code that runs may depend on the values of a tensor."""
    return not (x.is_meta or torch.compiler.is_compiling())
