"""Devices by the names that options and functions take."""

import torch

from univae.errors import InputError

__all__ = ["pick_device"]


def pick_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is the GPU if there is one, else the CPU.

    Raises:
        InputError: the name is none of torch's, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)  # torch.device("cuda") exists on machines without a GPU
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device must be auto, cpu, or a device this machine has; got device={name}"
        ) from error
    return device
