"""The interface of scorers, which ``likelihood`` uses: scores, rates and notes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from density import LatentModel
from density.estimation.streams import STREAM, own_streams
from density.tables.raw import RawTable
from experiments.evaluation.estimators import Estimator
from experiments.evaluation.score_columns import ScoreColumns
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder
from univae.seeds import seed_of
from univae.trained import ScoringBatch

__all__ = ["Scorer", "ScoringTask"]


@runtime_checkable
class Processes(Protocol):
    """The processes that score together, as :class:`experiments.training.distributed.World`."""

    @property
    def rank(self) -> int:
        """The number of this process."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, value: list[JsonObject]) -> list[list[JsonObject]]:
        """Return the values of all processes by rank to the first, none to the others."""


class _OneProcess:
    rank = 0
    size = 1

    def gather(self, value: list[JsonObject]) -> list[list[JsonObject]]:
        """Return the value."""
        return [value]


ALONE: Processes = _OneProcess()


@dataclass(frozen=True)
class ScoringTask:
    """A run, the data to score with it, and the method of estimation."""

    run: Path
    device: str
    data: str
    limit: int  # number of rows or texts to score; 0: all
    estimator: Estimator
    seed: int = 0  # of the draws
    processes: Processes = ALONE  # that share the data

    @property
    def share(self) -> slice:
        """The data of a block that this process scores: every n-th of n processes."""
        return slice(self.processes.rank, None, self.processes.size)

    def all_rows(self, rows: list[JsonObject]) -> list[JsonObject]:
        """Return the rows of a block in order from those of each process; none but to the first."""
        shares = self.processes.gather(rows)
        whole: list[JsonObject] = [{}] * sum(map(len, shares))
        for rank, share in enumerate(shares):
            whole[rank :: len(shares)] = share
        return whole

    def scores(self, model: LatentModel, batch: ScoringBatch) -> list[JsonObject]:
        """Return the records of a batch; the draws of a datum depend on the seed and it alone.

        The number ``datum`` of a record is the same for equal data.
        """
        count = len(batch.rows)
        with own_streams(seed_of(self.seed, STREAM), batch.x, count) as numbers:
            rows = self.estimator.rows(model, batch.x, batch.chunk)[:count]
        return [row | {"datum": number} for row, number in zip(rows, numbers, strict=True)]


@runtime_checkable
class Scorer(Protocol):
    """Scores the data of one kind of run."""

    @property
    def folder(self) -> RunFolder:
        """The run folder, which holds the report."""

    @property
    def model(self) -> LatentModel:
        """The model of the run, in evaluation mode."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Further columns of the .csv file, besides those of all kinds of run."""

    @property
    def table(self) -> RawTable | None:
        """The table that is scored, whose cells are joined to its scores; None for other data."""

    def rows_at_once(self, latents: int) -> int:
        """Return how many data of any length fit into memory with ``latents`` latents each."""

    def count_cut(self, x: Tensor) -> int:
        """Return how many data simulated from the model were cut before they were complete."""

    def rows(self) -> Iterator[JsonObject]:
        """Yield the scores of the data, in their order; none but to the first process."""

    def rates(self, rows: ScoreColumns, log_likelihood: float) -> JsonObject:
        """Return further numbers of a result besides the totals, such as bits per unit.

        ``log_likelihood`` is the mean in nats, NaN where it is unknown.
        """

    def notes(self, rows: ScoreColumns, result: JsonObject) -> list[str]:
        """Return notes on the data: what was left out or assumed, a line each."""

    def write_worst(self, rows: ScoreColumns) -> None:
        """Write the least likely data into ``samples/`` of the run, if they can be shown."""
