"""Random draws from a seed, apart from the global generators."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]

HOST = "cpu"


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draw from ``seed`` inside the block, and restore the generators of the CPU and ``device``.

    Without a seed the block draws from the global generators.
    """
    if seed is None:
        yield
        return
    if device.type == HOST:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    with torch.random.fork_rng([device], device_type=device.type):
        torch.default_generator.manual_seed(seed)
        torch.get_device_module(device).manual_seed(seed)
        yield
