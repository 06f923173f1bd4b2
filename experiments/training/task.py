"""The interface of a training task, and the seeds of its random numbers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["Progress", "Task", "Trained", "evaluating", "reseed", "seed_of"]


@dataclass(frozen=True)
class Progress:
    """How far training has come."""

    step: int  # finished steps
    fraction: float  # of training that is done, in [0, 1]


class Trained(Protocol):
    """A module with its training batches and its validation."""

    @property
    def module(self) -> nn.Module:
        """All trained weights; saved as model.safetensors."""
        ...

    def batches(self, epoch: int) -> Sequence[Any]:
        """Return the micro-batches of an epoch as small items, such as arrays of indices.

        The result depends on the seed and the epoch alone.
        """
        ...

    def load(self, item: Any) -> Any:
        """Return the micro-batch of an item: CPU tensors in tuples, lists or dictionaries."""
        ...

    def weight(self, batch: Any) -> int:
        """Return the number of targets (tokens, or rows) in a micro-batch."""
        ...

    def validate(self, progress: Progress) -> dict[str, Any]:
        """Return the metrics of the held-out set, for the log.

        The checkpoint with the smallest ``selection`` among them is the best.
        """
        ...


class Task(Trained, Protocol):
    """A task that minimises one loss.

    All noise must come from PyTorch's global generator, which the training loop seeds.
    """

    def loss(self, batch: Any, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and numbers to log by name, summed over the micro-batch.

        ``batch`` is on the module's device.
        """
        ...


def reseed(*key: int | str) -> None:
    """Seed PyTorch's generators with a hash of ``key``; different keys give unrelated streams."""
    torch.manual_seed(seed_of(*key))


def seed_of(*key: int | str) -> int:
    """Return a hash of ``key`` as a seed of 64 bits."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "little")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set a module to evaluation mode while the block runs, then restore each submodule's mode."""
    modes = {submodule: submodule.training for submodule in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for submodule, mode in modes.items():
            submodule.training = mode
