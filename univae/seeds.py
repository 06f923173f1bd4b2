"""Seeds of PyTorch's generators, and random draws from a seed apart from the global generators."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b

import torch

__all__ = ["reseed", "seed_of", "seeded"]

HOST = "cpu"


def reseed(*key: int | str) -> None:
    """Seed PyTorch's generators with a hash of ``key``; different keys give unrelated streams.

    ``torch.manual_seed`` seeds the same generators, and takes a tenth of a millisecond more, in
    which it looks at kinds of devices that are not there.
    """
    seed = seed_of(*key)
    for seed_device in _seeders():
        seed_device(seed)


@cache
def _seeders() -> tuple[Callable[[int], object], ...]:
    """Return the functions that seed the generators of the CPU and of all devices."""
    seeders: list[Callable[[int], object]] = [torch.default_generator.manual_seed]
    if torch.cuda.is_available():
        seeders.append(torch.cuda.manual_seed_all)
    if torch.backends.mps.is_available():
        seeders.append(torch.mps.manual_seed)
    if torch.xpu.is_available():
        seeders.append(torch.xpu.manual_seed_all)
    return tuple(seeders)


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
