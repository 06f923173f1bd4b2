"""Scores of images and of table rows."""

from collections.abc import Iterator, Sequence

import torch
from tqdm import tqdm

from density.likelihoods.bits import bits_per_dim
from density.trained import TrainedDensity
from experiments.data.readers import read
from experiments.evaluation.memory import rows_at_once, samples_at_once
from experiments.evaluation.open_run import open_run
from experiments.evaluation.scorer import ScoringTask
from experiments.evaluation.scores import finite, rows_of, worst
from experiments.images.run import fit_to
from experiments.reports.image_grid import write_grid
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder

__all__ = ["ArrayScorer"]

ROWS = 100  # images or rows in a batch, at most
IMAGE_AXES = 3  # channels, height, width


class ArrayScorer:
    """Scores images or rows by the run of an image or table model."""

    columns: tuple[str, ...] = ()

    def __init__(self, task: ScoringTask) -> None:
        self.task = task
        self.run = open_run(TrainedDensity, task.run, task.device)
        self.data = fit_to(self.run, read(task.data))

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return self.run.folder

    def rows(self) -> Iterator[JsonObject]:
        """Yield the scores of the first ``limit`` rows."""
        model = self.run.model
        count = min(len(self.data), self.task.limit or len(self.data))
        batch_size = rows_at_once(model, ROWS)
        with tqdm(total=count, desc="scoring", disable=None, leave=False) as bar:
            for start in range(0, count, batch_size):
                x = self.data.batch(slice(start, min(count, start + batch_size)))
                x = x.to(self.run.device)
                chunk = samples_at_once(model, len(x))
                yield from rows_of(model, x, self.task.samples, self.task.proposal, chunk)
                bar.update(len(x))

    def rates(self, rows: Sequence[JsonObject], log_likelihood: float) -> JsonObject:
        """Return ``bits_per_dim`` with its convention, and the name of the data."""
        pixels = self.run.model.output.pixels
        nats = torch.tensor(log_likelihood, dtype=torch.float64)
        bits = bits_per_dim(nats, pixels.dims, pixels.nats)
        return {
            "bits_per_dim": finite(bits.value.item()),
            "convention": bits.convention,
            "data": self.data.name,
        }

    def notes(self, rows: Sequence[JsonObject], result: JsonObject) -> list[str]:
        """Return the notes of the reader: what it left out or assumed."""
        return list(self.data.notes)

    def write_worst(self, rows: Sequence[JsonObject]) -> None:
        """Write a grid of the least likely images; nothing for tables."""
        pixels = self.run.model.output.pixels
        if len(pixels.shape) == IMAGE_AXES:
            title = f"The least likely of {self.data.name}, the lowest first"
            write_grid(self.folder, "worst", title, self.data.batch(worst(rows)), pixels.levels)
