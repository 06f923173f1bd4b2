"""The interface of a training task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Tensor, nn

from univae.checkpoint import JsonObject
from univae.modes import evaluating
from univae.seeds import reseed, seed_of

__all__ = [
    "FEWEST_ROWS",
    "SHOWN_VECTORS",
    "Batch",
    "Item",
    "Item_co",
    "JoiningTask",
    "Loss",
    "Progress",
    "ShowingTask",
    "Shown",
    "SizedTask",
    "Task",
    "Total",
    "Trainable",
    "WeighingTask",
    "evaluating",
    "reseed",
    "seed_of",
]

FEWEST_ROWS = 4  # of a validation that is cut
SHOWN_VECTORS = 256  # most held-out data whose vectors a tracker shows

Item = TypeVar("Item")  # names a micro-batch, as an array of indices does
Item_co = TypeVar("Item_co", covariant=True)
Batch = TypeVar("Batch")  # tensors in tuples, lists or dictionaries

# Returns each number summed over the processes of a step; a collective operation.
Total: TypeAlias = Callable[[Sequence[float]], list[float]]


@dataclass(frozen=True)
class Progress:
    """How far training has come."""

    step: int  # finished steps
    fraction: float  # of training that is done, in [0, 1]


# See :meth:`Task.loss`.
Loss: TypeAlias = Callable[[Batch, Progress], tuple[Tensor, dict[str, Tensor]]]


@runtime_checkable
class Trainable(Protocol[Item_co]):
    """A module with its training batches and its validation."""

    @property
    def module(self) -> nn.Module:
        """All trained weights; saved as model.safetensors."""
        ...

    def batches(self, epoch: int) -> Sequence[Item_co]:
        """Return the micro-batches of an epoch as items, such as arrays of indices.

        The result depends on the seed and the epoch alone.
        """
        ...

    def validate(self, progress: Progress) -> JsonObject:
        """Return the metrics of the held-out set, for the log.

        The checkpoint with the smallest ``selection`` among them is the best.
        """
        ...


@runtime_checkable
class Task(Trainable[Item], Protocol[Item, Batch]):
    """A task that minimises one loss.

    All noise must come from PyTorch's global generator, which the training loop seeds.
    """

    def load(self, item: Item) -> Batch:
        """Return the micro-batch of an item: CPU tensors in tuples, lists or dictionaries."""
        ...

    def weight(self, batch: Batch) -> int:
        """Return the number of targets (tokens, images or rows) in a micro-batch."""
        ...

    def loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and numbers to log by name, summed over the micro-batch.

        ``batch`` is on the module's device.
        """
        ...


@runtime_checkable
class WeighingTask(Task[Item, Batch], Protocol[Item, Batch]):
    """A task whose loss is a sum of means over different targets, such as rows and tokens.

    A mean over all targets of a step is no mean of those of its micro-batches, which may have
    different numbers of them.
    """

    def weigh(self, batches: Sequence[Batch], total: Total) -> list[Batch]:
        """Return a process's micro-batches of a step with the numbers of targets of the step.

        It is called once a step, before the first loss. Every process must call ``total`` alike.
        """
        ...


@runtime_checkable
class JoiningTask(Protocol):
    """A task whose loss may read the micro-batches of all processes as one, the joint batch.

    Its items are arrays of rows.
    """

    @property
    def joins_processes(self) -> bool:
        """Whether it does."""
        ...


@dataclass(frozen=True)
class Shown:
    """What shows how a model does, beside its numbers."""

    vectors: Tensor  # latents or vectors (N, d) of held-out data
    labels: Sequence[str]  # of the vectors, each a line
    # written by the model, by title
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)


@runtime_checkable
class ShowingTask(Protocol):
    """A task that shows what its model makes of held-out data."""

    def shown(self) -> Shown:
        """Return it; called in evaluation mode after a validation, for a tracker that shows it."""
        ...


@runtime_checkable
class SizedTask(Protocol):
    """A task whose validation can be cut to a part of its data, where time is short."""

    @property
    def validation_rows(self) -> int:
        """The number of rows of a whole validation."""
        ...

    @property
    def fewest_rows(self) -> int:
        """The fewest rows of which the metrics say something; at most ``validation_rows``."""
        ...

    def validate_rows(self, progress: Progress, rows: int) -> JsonObject:
        """Validate as ``validate`` does, on the first ``rows`` of the data in a fixed order."""
        ...
