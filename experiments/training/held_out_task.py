"""The validation of a training task by the likelihood of held-out rows."""

from abc import ABC, abstractmethod

from torch import Tensor

from experiments.training.task import FEWEST_ROWS, Progress
from univae.checkpoint import JsonObject

__all__ = ["HeldOutTask"]


class HeldOutTask(ABC):
    """A training task whose best checkpoint has the lowest mean NLL of held-out rows.

    Args:
        held_out: the rows of validations (N, *shape).
    """

    def __init__(self, held_out: Tensor) -> None:
        self.held_out = held_out

    @abstractmethod
    def measure(self, held_out: Tensor) -> JsonObject:
        """Return the metrics of held-out rows, ``nll_nats`` among them."""

    def validate(self, progress: Progress) -> JsonObject:
        """Return the metrics of all held-out rows; the lowest ``selection`` is the best."""
        return self.validate_rows(progress, self.validation_rows)

    def validate_rows(self, progress: Progress, rows: int) -> JsonObject:
        """Return the metrics of the first ``rows`` held-out rows."""
        metrics = self.measure(self.held_out[:rows])
        return {"selection": metrics["nll_nats"], **metrics}

    @property
    def validation_rows(self) -> int:
        """The number of held-out rows."""
        return len(self.held_out)

    @property
    def fewest_rows(self) -> int:
        """The fewest rows of a validation."""
        return min(FEWEST_ROWS, self.validation_rows)
