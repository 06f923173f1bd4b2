"""Seeds of PyTorch's generators, and random draws from a seed apart from the global generators."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch

__all__ = ["reseed", "seed_of", "seeded"]

HOST = "cpu"


def reseed(*key: int | str) -> None:
    """Seed PyTorch's generators with a hash of ``key``; different keys give unrelated streams."""
    torch.manual_seed(seed_of(*key))


def seed_of(*key: int | str) -> int:
    """Return a hash of ``key`` as a seed of 64 bits."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "little")


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
