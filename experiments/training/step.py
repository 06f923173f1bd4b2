"""The protocol of a training step, and the endless stream of micro-batches that feeds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, runtime_checkable

import torch
from torch import nn

from experiments.training.distributed import World
from experiments.training.schedules import SCHEDULES
from experiments.training.settings import Settings
from experiments.training.task import Item, Progress, Trained
from univae.errors import InputError

__all__ = ["Stepped", "Steps", "Stream", "rate_factor", "uses_bf16"]


class Stream(Generic[Item]):
    """The endless stream of a task's micro-batches; a step may lie in two epochs."""

    def __init__(self, task: Trained[Item]) -> None:
        self._task = task
        self._epoch = -1
        self._items: Sequence[Item] = ()

    def take(self, epoch: int, offset: int, count: int) -> tuple[list[Item], int, int]:
        """Return the ``count`` items from a position on, and the epoch and offset after them."""
        taken: list[Item] = []
        while True:
            items = self._items_of(epoch)
            end = min(len(items), offset + count - len(taken))
            taken += [items[i] for i in range(offset, end)]
            if len(taken) == count:
                return taken, epoch, end
            epoch = epoch + 1
            offset = 0

    def _items_of(self, epoch: int) -> Sequence[Item]:
        if epoch != self._epoch:
            self._epoch = epoch
            self._items = self._task.batches(epoch)
        if len(self._items) == 0:
            raise InputError("training: the data give no batch; give more data, or a smaller batch")
        return self._items


@dataclass(frozen=True)
class Stepped:
    """The result of a step: sums over its micro-batches on all processes, ``loss`` among them."""

    sums: dict[str, float]
    rate: float
    gradient_norm: float


@runtime_checkable
class Steps(Protocol[Item]):
    """The step that the loop repeats: down the gradient of one loss, or of two players in turn."""

    @property
    def task(self) -> Trained[Item]:
        """The module, its micro-batches and its validation."""
        ...

    @property
    def world(self) -> World:
        """The processes that take a step together."""
        ...

    @property
    def averaged(self) -> nn.Module:
        """The part of ``task.module`` whose moving average is validated and saved."""
        ...

    @property
    def batches(self) -> int:
        """Micro-batches in a step, over all processes."""
        ...

    def step(self, items: Sequence[Item], progress: Progress) -> Stepped:
        """Take one step.

        Raises:
            TrainingFailed: a number is not finite; nothing was changed.
        """
        ...

    def step_sizes(self) -> dict[str, float]:
        """Return numbers about step sizes to log."""
        ...

    def state_dict(self) -> dict[str, object]:
        """Return everything but the task's module that the next step depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, object], step: int) -> None:
        """Continue from the state saved after ``step`` steps.

        Raises:
            InputError: the state does not fit.
        """
        ...


def rate_factor(settings: Settings, fraction: float) -> float:
    """Return what the learning rate is multiplied by after a fraction of training."""
    return SCHEDULES[settings.schedule].factor(fraction, settings)


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Return whether a ``--precision`` means bfloat16 on a device."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
