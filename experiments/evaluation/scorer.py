"""Scorers of runs, as ``likelihood`` uses them: scores, rates and notes of one kind of data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from experiments.evaluation.proposals import ProposalName
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder

__all__ = ["Scorer", "ScoringTask"]


@dataclass(frozen=True)
class ScoringTask:
    """A run, the data to score with it, and how."""

    run: Path
    device: str
    data: str
    limit: int  # only the first so many rows or texts; 0: all
    samples: int  # importance samples each
    proposal: ProposalName


@runtime_checkable
class Scorer(Protocol):
    """Scores the data of one kind of run."""

    @property
    def folder(self) -> RunFolder:
        """The run folder, where the report lies."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the .csv file beside those of every kind."""

    def rows(self) -> Iterator[JsonObject]:
        """Yield the scores of the data, in their order."""

    def rates(self, rows: Sequence[JsonObject], log_likelihood: float) -> JsonObject:
        """Return what a result holds beside the totals, such as bits per unit.

        ``log_likelihood``: mean in nats, NaN where it is unknown.
        """

    def notes(self, rows: Sequence[JsonObject], result: JsonObject) -> list[str]:
        """Return what was left out or assumed of the data, a line each."""

    def write_worst(self, rows: Sequence[JsonObject]) -> None:
        """Write a picture of the least likely data into the run, where there is one."""
