"""The protocols of what the training loop trains, and the seeds of its noise."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from univae.checkpoint import JsonObject

__all__ = [
    "Batch",
    "Item",
    "Item_co",
    "Progress",
    "Task",
    "Trained",
    "evaluating",
    "reseed",
    "seed_of",
]

Item = TypeVar("Item")  # names a micro-batch, as an array of indices does
Item_co = TypeVar("Item_co", covariant=True)
Batch = TypeVar("Batch")  # tensors in tuples, lists or dictionaries


@dataclass(frozen=True)
class Progress:
    """The steps finished, and the fraction of training that is done, in [0, 1]."""

    step: int
    fraction: float


@runtime_checkable
class Trained(Protocol[Item_co]):
    """A module, the micro-batches that it is trained on, and its validation."""

    @property
    def module(self) -> nn.Module:
        """All that is trained, saved as model.safetensors."""
        ...

    def batches(self, epoch: int) -> Sequence[Item_co]:
        """Return the micro-batches of an epoch as items, such as arrays of indices.

        A pure function of seed and epoch.
        """
        ...

    def validate(self, progress: Progress) -> JsonObject:
        """Return numbers for the log.

        ``selection`` among them decides which checkpoint is best: smaller is better.
        """
        ...


@runtime_checkable
class Task(Trained[Item], Protocol[Item, Batch]):
    """A module that descends one loss.

    Draw all noise from PyTorch's global generator, which the loop seeds.
    """

    def load(self, item: Item) -> Batch:
        """Return a micro-batch: tensors on the CPU, in tuples, lists or dictionaries."""
        ...

    def weight(self, batch: Batch) -> int:
        """Return the number of targets (tokens, images or rows) in a micro-batch."""
        ...

    def loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the numbers to log, summed over the micro-batch.

        ``batch`` is on the module's device.
        """
        ...


def reseed(*key: int | str) -> None:
    """Seed PyTorch's generators with a hash of ``key``: other keys give unrelated streams."""
    torch.manual_seed(seed_of(*key))


def seed_of(*key: int | str) -> int:
    """Return 64 bits of a hash of ``key``."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "little")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set the module to evaluation inside the block; restore the mode of each part after it."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
