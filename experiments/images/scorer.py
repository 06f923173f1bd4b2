"""Scores of images and of table rows."""

from collections.abc import Iterator

import torch
from torch import Tensor

from density import LatentModel
from density.estimation.batches import filled_batch, scored_at_once
from density.likelihoods.bits import bits_per_dim
from density.tables.raw import RawTable
from density.trained import TrainedDensity
from experiments.evaluation.open_run import open_run
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scorer import ScoringTask
from experiments.evaluation.scores import finite
from experiments.images.run import read_for
from experiments.reports.image_grid import write_grid
from experiments.training.progress_bar import RowBar
from univae.checkpoint import JsonObject
from univae.row_groups import in_whole_groups
from univae.run_folder import RunFolder

__all__ = ["ArrayScorer"]

IMAGE_AXES = 3  # channels, height, width


class ArrayScorer:
    """Scores images or rows by the run of an image or table model."""

    columns: tuple[str, ...] = ()

    def __init__(self, task: ScoringTask) -> None:
        self.task = task
        self.run = open_run(TrainedDensity, task.run, task.device)
        self.data = read_for(self.run, task.data)

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return self.run.folder

    @property
    def model(self) -> LatentModel:
        """The model of images or rows."""
        return self.run.model

    @property
    def table(self) -> RawTable | None:
        """The table that is scored, where it has named columns."""
        return self.data.table

    def rows_at_once(self, latents: int) -> int:
        """Return how many rows fit into memory with ``latents`` latents each."""
        return scored_at_once(self.run.model, latents)

    def count_cut(self, x: Tensor) -> int:
        """Return 0: images and rows have no length."""
        return 0

    def rows(self) -> Iterator[JsonObject]:
        """Yield the scores of the first ``limit`` rows."""
        model = self.run.model
        count = min(len(self.data), self.task.limit or len(self.data))
        size = in_whole_groups(self.rows_at_once(self.task.estimator.latents), count)
        block = size * self.task.processes.size
        with RowBar(count, "scoring") as bar:
            for start in range(0, count, block):
                own = range(start, min(count, start + block))[self.task.share]
                rows: list[JsonObject] = []
                if own:
                    x = self.data.batch(list(own)).to(self.run.device)
                    rows = self.task.scores(model, filled_batch(model, list(own), x, size))
                yield from self.task.all_rows(rows)
                bar.add(len(own))

    def rates(self, rows: ScoreColumns, log_likelihood: float) -> JsonObject:
        """Return ``bits_per_dim`` with its convention, and the name of the data."""
        pixels = self.run.model.output.pixels
        nats = torch.tensor(log_likelihood, dtype=torch.float64)
        bits = bits_per_dim(nats, pixels.dims, pixels.nats)
        return {
            "bits_per_dim": finite(bits.value.item()),
            "convention": bits.convention,
            "data": self.data.name,
        }

    def notes(self, rows: ScoreColumns, result: JsonObject) -> list[str]:
        """Return the notes of the reader: what it left out or assumed."""
        return list(self.data.notes)

    def write_worst(self, rows: ScoreColumns) -> None:
        """Write a grid of the least likely images; nothing for tables."""
        pixels = self.run.model.output.pixels
        if len(pixels.shape) == IMAGE_AXES:
            title = f"The least likely of {self.data.name}, the lowest first"
            lowest = self.data.batch([row.number for row in rows.least_likely])
            write_grid(self.folder, "worst", title, lowest, pixels.levels)
