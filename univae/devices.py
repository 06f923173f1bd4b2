"""Devices by the names that options and functions take."""

import torch

from univae.errors import InputError

__all__ = ["is_cuda", "pick_device"]

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
        torch.empty(0, device=device)  # torch.device("cuda") exists on machines without a GPU
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device must be auto, cpu, or a device this machine has; got device={name}"
        ) from error
    return device


def is_cuda(device: torch.device) -> bool:
    """Return whether a device is a GPU with CUDA's interface, as those of ROCm are too."""
    return device.type == CUDA
