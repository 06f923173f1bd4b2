"""The interface of scorers, which ``likelihood`` uses: scores, rates and notes."""

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
    """A run, the data to score with it, and the importance sampling."""

    run: Path
    device: str
    data: str
    limit: int  # number of rows or texts to score; 0: all
    samples: int  # importance samples per row or text
    proposal: ProposalName


@runtime_checkable
class Scorer(Protocol):
    """Scores the data of one kind of run."""

    @property
    def folder(self) -> RunFolder:
        """The run folder, which holds the report."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Further columns of the .csv file, besides those of all kinds of run."""

    def rows(self) -> Iterator[JsonObject]:
        """Yield the scores of the data, in their order."""

    def rates(self, rows: Sequence[JsonObject], log_likelihood: float) -> JsonObject:
        """Return further numbers of a result besides the totals, such as bits per unit.

        ``log_likelihood`` is the mean in nats, NaN where it is unknown.
        """

    def notes(self, rows: Sequence[JsonObject], result: JsonObject) -> list[str]:
        """Return notes on the data: what was left out or assumed, a line each."""

    def write_worst(self, rows: Sequence[JsonObject]) -> None:
        """Write the least likely data into ``samples/`` of the run, if they can be shown."""
