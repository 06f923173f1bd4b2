"""One training step, and the endless stream of micro-batches that steps consume."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from experiments.training.distributed import World
from experiments.training.precision import PRECISIONS, PrecisionName
from experiments.training.schedules import SCHEDULES
from experiments.training.settings import Settings
from experiments.training.task import Item, Progress, Trainable
from univae.errors import InputError

__all__ = ["Stepped", "Steps", "Stream", "rate_factor", "uses_bf16"]


class Stream(Generic[Item]):
    """The micro-batches of a task, epoch after epoch; a step may take from two epochs."""

    def __init__(self, task: Trainable[Item]) -> None:
        self._task = task
        self._epoch = -1
        self._items: Sequence[Item] = ()

    def take(self, epoch: int, offset: int, count: int) -> tuple[list[Item], int, int]:
        """Return the next ``count`` items from a position on, and the epoch and offset after them.

        Raises:
            InputError: an epoch has no item.
        """
        items: list[Item] = []
        while True:
            epoch_items = self._items_of(epoch)
            end = min(len(epoch_items), offset + count - len(items))
            items += [epoch_items[i] for i in range(offset, end)]
            if len(items) == count:
                return items, epoch, end
            epoch += 1
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
    """The result of a step."""

    sums: dict[str, float]  # over its micro-batches on all processes; has ``weight`` and ``loss``
    rate: float  # learning rate
    gradient_norm: float  # NaN where gradients are not stored


@runtime_checkable
class Steps(Protocol[Item]):
    """Steps of training, which the loop repeats.

    :class:`GradientSteps` descends the gradient of one loss; a GAN's two players take turns.
    """

    @property
    def task(self) -> Trainable[Item]:
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

    @property
    def sharded(self) -> bool:
        """Whether weights are divided over the processes."""
        ...

    @property
    def saves_together(self) -> bool:
        """Whether a checkpoint needs all processes, each of which has a part of the state."""
        ...

    @property
    def optimized(self) -> Sequence[Tensor]:
        """The parameters whose state of the optimizer may be divided, in its order."""
        ...

    def whole_weights(self) -> AbstractContextManager[object]:
        """Let every process have all weights while a block runs; collective where divided."""
        ...

    def keep_batches(self, processes: int) -> None:
        """Keep the micro-batches of a step of a run that ``processes`` processes began.

        Where this number of processes cannot share them equally, a step has as many as it can.

        Raises:
            InputError: these steps cannot be divided over this number of processes.
        """
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
    """Return the factor of the learning rate after a fraction of training."""
    return SCHEDULES[settings.schedule].factor(fraction, settings)


def uses_bf16(precision: PrecisionName, device: torch.device) -> bool:
    """Return whether forward passes on a device are computed in bfloat16."""
    return PRECISIONS[precision].uses_bf16(device)
