"""The registry of what a student fits of its teacher's vectors, for ``--distil-target``."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from univae.sentence.losses import distillation_loss, vector_loss

__all__ = ["TARGETS", "DistillationLoss", "Target"]


@runtime_checkable
class DistillationLoss(Protocol):
    """A loss of unit vectors (rows, width) and those of a teacher (rows, other)."""

    def __call__(
        self, student: Tensor, teacher: Tensor, weight: float, *, gather: bool = False
    ) -> Tensor:
        """Return the loss; ``gather``: this process's share of that of all rows."""
        ...


@dataclass(frozen=True)
class Target:
    """A row of :data:`TARGETS`."""

    summary: str
    loss: DistillationLoss
    has_width: bool  # whether the teacher's vectors are at most as wide as the student's


TARGETS: dict[str, Target] = {
    "cosines": Target("the cosines of all texts of a batch", distillation_loss, has_width=False),
    "vectors": Target(
        "the vectors, reduced to --width such that their cosines change least",
        vector_loss,
        has_width=True,
    ),
}
