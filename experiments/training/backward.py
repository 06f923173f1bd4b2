"""Gradients of a task's loss, from one backward pass or from several that the task computes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Tensor, nn

from experiments.training.blocks import recompute
from experiments.training.compilation import compiled_loss, require_compiler
from experiments.training.distributed import World, without_averaging
from experiments.training.settings import Settings
from experiments.training.sharding import shard
from experiments.training.task import Batch, Loss, Progress, Task

__all__ = ["Autocast", "Backward", "LossBackward", "TaskBackward"]

Batch_contra = TypeVar("Batch_contra", contravariant=True)
Item = TypeVar("Item")

# Returns the context in which losses are computed.
Autocast: TypeAlias = Callable[[], AbstractContextManager[object]]


@runtime_checkable
class Backward(Protocol[Batch_contra]):
    """Computes the gradient of a task's loss."""

    @property
    def in_one_pass(self) -> bool:
        """Whether one backward pass computes the gradient, which may then skip ``.grad``."""
        ...

    def __call__(
        self, batch: Batch_contra, progress: Progress, factor: float, autocast: Autocast
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add ``factor`` times the gradient to ``.grad``; return the result of ``Task.loss``."""
        ...

    def local(self, condition: bool) -> AbstractContextManager[object]:
        """If ``condition``, do not average gradients over the processes while a block runs."""
        ...

    def finish(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average gradients over the processes, where the backward pass has not done so."""
        ...


class LossBackward(Generic[Batch]):
    """One backward pass of the task's loss, whose gradients are averaged over the processes.

    Args:
        task: the task of the loss.
        world: the processes.
        settings: whether steps are compiled, activations computed again, and weights divided over
            the processes rather than copied.

    Raises:
        InputError: the model, or this machine, cannot do that.
    """

    in_one_pass = True

    def __init__(self, task: Task[Item, Batch], world: World, settings: Settings) -> None:
        if settings.recompute:
            recompute(task.module)
        loss: Loss[Batch] = task.loss
        if settings.compile:
            require_compiler(world.device)
            loss = compiled_loss(task)
        self.loss: nn.Module = _Loss(task, loss)
        if settings.shard and world.size > 1:
            shard(self.loss, world.device)
        else:
            self.loss = world.average_gradients(self.loss)

    def __call__(
        self, batch: Batch, progress: Progress, factor: float, autocast: Autocast
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast():
            loss, logged = self.loss(batch, progress)
        (loss * factor).backward()
        return loss, logged

    def local(self, condition: bool) -> AbstractContextManager[object]:
        return without_averaging(self.loss, condition)

    def finish(self, parameters: Sequence[nn.Parameter]) -> None:
        """Do nothing: the backward pass has averaged."""


class TaskBackward(Generic[Batch]):
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
        backward: Callable[[Batch, Progress, float], tuple[Tensor, dict[str, Tensor]]],
        task: Task[Item, Batch],
        world: World,
    ) -> None:
        self.backward = backward
        self.loss = _Loss(task, task.loss)
        self.world = world

    def __call__(
        self, batch: Batch, progress: Progress, factor: float, autocast: Autocast
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast():
            return self.backward(batch, progress, factor)

    def local(self, condition: bool) -> AbstractContextManager[object]:
        return without_averaging(self.loss, condition)

    def finish(self, parameters: Sequence[nn.Parameter]) -> None:
        self.world.average(parameters)


class _Loss(nn.Module, Generic[Batch]):
    """The loss as a module: DistributedDataParallel averages gradients of modules that it calls."""

    def __init__(self, task: Task[Item, Batch], loss: Loss[Batch]) -> None:
        super().__init__()
        self.module = task.module
        self.loss = loss

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(batch, progress)
