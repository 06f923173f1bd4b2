"""Gradients of a task's loss, from one backward pass or from several that the task computes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from torch import Tensor, nn

from experiments.training.distributed import World, without_averaging
from experiments.training.task import Progress, Task

__all__ = ["Autocast", "Backward", "LossBackward", "TaskBackward"]

# Returns the context in which losses are computed.
Autocast: TypeAlias = Callable[[], AbstractContextManager[Any]]


class Backward(Protocol):
    """Computes the gradient of a task's loss."""

    @property
    def in_one_pass(self) -> bool:
        """Whether one backward pass computes the gradient, which may then skip ``.grad``."""
        ...

    def __call__(
        self, batch: Any, progress: Progress, factor: float, autocast: Autocast
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add ``factor`` times the gradient to ``.grad``; return the result of ``Task.loss``."""
        ...

    def local(self, condition: bool) -> AbstractContextManager[Any]:
        """If ``condition``, do not average gradients over the processes while a block runs."""
        ...

    def finish(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average gradients over the processes, where the backward pass has not done so."""
        ...


class LossBackward:
    """One backward pass of the task's loss, whose gradients DistributedDataParallel averages."""

    in_one_pass = True

    def __init__(self, task: Task, world: World) -> None:
        self.loss = world.average_gradients(_Loss(task))

    def __call__(
        self, batch: Any, progress: Progress, factor: float, autocast: Autocast
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast():
            loss, logged = self.loss(batch, progress)
        (loss * factor).backward()
        return loss, logged

    def local(self, condition: bool) -> AbstractContextManager[Any]:
        return without_averaging(self.loss, condition)

    def finish(self, parameters: Sequence[nn.Parameter]) -> None:
        """Do nothing: the backward pass has averaged."""


class TaskBackward:
    """The backward passes of a task that computes its gradient itself, chunk by chunk.

    Args:
        backward: adds ``factor`` times the gradient of the loss to ``.grad`` and returns what
            ``Task.loss`` returns, detached: ``backward(batch, progress, factor)``.
        task: the task of the gradient.
        world: the processes over which gradients are averaged afterwards.
    """

    in_one_pass = False

    def __init__(
        self,
        backward: Callable[[Any, Progress, float], tuple[Tensor, dict[str, Tensor]]],
        task: Task,
        world: World,
    ) -> None:
        self.backward = backward
        self.loss = _Loss(task)
        self.world = world

    def __call__(
        self, batch: Any, progress: Progress, factor: float, autocast: Autocast
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast():
            return self.backward(batch, progress, factor)

    def local(self, condition: bool) -> AbstractContextManager[Any]:
        return without_averaging(self.loss, condition)

    def finish(self, parameters: Sequence[nn.Parameter]) -> None:
        self.world.average(parameters)


class _Loss(nn.Module):
    """The loss as a module: DistributedDataParallel averages gradients of modules that it calls."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.module
        self.task = task

    def forward(self, batch: Any, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.task.loss(batch, progress)
