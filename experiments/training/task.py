"""What the training loop asks of whatever it trains."""

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
    """Where training stands: steps finished, and the fraction of training done, in [0, 1]."""

    step: int
    fraction: float


class Trained(Protocol):
    """What is trained, on what, and how it is judged."""

    @property
    def module(self) -> nn.Module:
        """Everything trained; saved as model.safetensors."""
        ...

    def batches(self, epoch: int) -> Sequence[Any]:
        """The micro-batches of an epoch, as small items such as index arrays.

        A pure function of seed and epoch.
        """
        ...

    def load(self, item: Any) -> Any:
        """A micro-batch from its item: tensors on the CPU, in tuples, lists or dictionaries."""
        ...

    def weight(self, batch: Any) -> int:
        """The number of targets (tokens, or data) in a micro-batch."""
        ...

    def validate(self, progress: Progress) -> dict[str, Any]:
        """Numbers for the log.

        ``selection`` among them decides which checkpoint is best: smaller is better.
        """
        ...


class Task(Trained, Protocol):
    """What descends one loss. Draw all noise from PyTorch's global generator: the loop seeds it."""

    def loss(self, batch: Any, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and numbers to log, SUMMED over the micro-batch.

        ``batch`` is on the module's device.
        """
        ...


def reseed(*key: int | str) -> None:
    """Seed PyTorch's generators with a hash of ``key``: other keys give unrelated streams."""
    torch.manual_seed(seed_of(*key))


def seed_of(*key: int | str) -> int:
    """The seed that ``key`` stands for, of 64 bits."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "little")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside the block the module evaluates; after it, each part is in the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
