"""What a task trains on, in words: the unit of its likelihoods, and of its speed."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["HasUnits", "Units", "units_of"]


@dataclass(frozen=True)
class Units:
    """The words for the data of a task."""

    datum: str = "datum"  # one of them
    counted: str = "data"  # what the weight of a batch counts

    @property
    def plural(self) -> str:
        """The word for several of them."""
        return "data" if self.datum == "datum" else f"{self.datum}s"


@runtime_checkable
class HasUnits(Protocol):
    """A task that says what its data are."""

    @property
    def units(self) -> Units:
        """The words for its data."""
        ...


def units_of(task: object) -> Units:
    """Return the words for the data of a task; general ones where it has none."""
    return task.units if isinstance(task, HasUnits) else Units()
