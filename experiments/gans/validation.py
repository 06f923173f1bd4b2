"""Data of a GAN run, the feature space that it is measured in, and its validation."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from experiments.data.arrays import Data, all_alike, describe, read
from experiments.gans.evaluation import Reference
from experiments.gans.features import Space, class_labels, train_feature_space
from experiments.gans.samples import fixed_latents
from experiments.gans.scaling import gan_rows, in_units_of, to_grey_levels
from experiments.reports.image_grid import write_picture
from experiments.training.run_folder import Run
from experiments.training.task import Progress
from gan.audit import audit
from gan.normalization.rules import NormalizationName
from gan.players import Players
from univae.errors import InputError
from univae.text.corpus import split

__all__ = ["Validation", "ValidationOptions", "read_split", "train_features"]

FEWEST_TRAINING_ROWS = 20
FEWEST_HELD_OUT_ROWS = 2
MOST_HELD_OUT_ROWS = 5000
# Real rows at which a validation measures the critic's gradients and slopes.
AUDITED_ROWS = 128
# Length of the segments of slopes, in units of the median distance between rows.
SLOPE_LENGTH = 1e-2
ROWS_PER_BLOCK = 256
IMAGE_DIMENSIONS = 3
GREY_LEVELS = 256


@runtime_checkable
class ValidationOptions(Protocol):
    """The options of ``train-gan`` that its data and its validation depend on."""

    @property
    def batch_size(self) -> int: ...

    @property
    def conditional(self) -> bool: ...

    @property
    def data(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def feature_steps(self) -> int: ...

    @property
    def features(self) -> str: ...

    @property
    def gradient_bound(self) -> float: ...

    @property
    def gran_eps(self) -> float: ...

    @property
    def held_out(self) -> float: ...

    @property
    def normalization(self) -> NormalizationName: ...

    @property
    def out(self) -> Path: ...

    @property
    def seed(self) -> int: ...

    @property
    def threads(self) -> int: ...

    @property
    def validation_data(self) -> int: ...


def read_split(
    config: ValidationOptions, run: Run | None = None
) -> tuple[Data, np.ndarray, Tensor]:
    """Read the data; return them, the indices of the training rows, and held-out rows.

    Their units are those of ``run``, or those of a new run.

    Raises:
        InputError: the data are not those of ``run``, too few, or all alike.
    """
    data = read(config.data)
    if run is not None and run.data_record():
        record = {**run.data_record(), "data": describe(data, config.data)}
        Run(run.path, {"resume": True}).record_data(record)
    data = in_units_of(data, run)
    training_rows, held_out_rows = split(len(data), config.held_out, config.seed)
    least = max(FEWEST_TRAINING_ROWS, config.batch_size)
    if len(training_rows) < least:
        raise InputError(
            f"needs {least} data to train on, a batch at least; {data.name} leaves "
            f"{len(training_rows)}; lower --batch-size or --held-out, or give more data"
        )
    if len(held_out_rows) < FEWEST_HELD_OUT_ROWS:
        raise InputError(
            f"{FEWEST_HELD_OUT_ROWS} held-out rows are needed; {len(data)} rows with --held-out "
            f"{config.held_out:g} give {len(held_out_rows)}"
        )
    if all_alike(data):
        raise InputError(
            f"--data {config.data}: all {len(data)} rows are alike; give data that differ"
        )
    return data, training_rows, gan_rows(data, held_out_rows[:MOST_HELD_OUT_ROWS])


def train_features(config: ValidationOptions, data: Data) -> Space:
    """Open the run's feature space; train its classifier in ``features/``, unless it is there."""
    return train_feature_space(
        data,
        config.out / "features",
        config.features,
        config.feature_steps,
        config.threads,
        config.device,
    )


class Validation:
    """Metrics of the generator, facts about the critic, and a grid of fixed latents."""

    def __init__(self, config: ValidationOptions, reference: Reference, run: Run) -> None:
        self.config = config
        self.reference = reference
        self.run = run
        self.labels = class_labels(reference.data) if config.conditional else None
        self.real = reference.real[:AUDITED_ROWS]
        self.real_labels = None
        if self.labels is not None:
            self.real_labels = self.labels[reference.order[: len(self.real)]]

    def __call__(self, players: Players, progress: Progress) -> dict[str, Any]:
        """Return the metrics; ``selection`` is the Fréchet distance."""
        z = torch.randn(self.reference.count, players.generator.latent)
        labels = None
        if self.labels is not None:
            labels = self.labels[torch.randint(len(self.labels), (len(z),))]
        metrics = self.reference.measure(_generate(players, z, labels))
        if len(self.reference.data.shape) == IMAGE_DIMENSIONS:
            self._write_grid(players, progress.step)
        return {
            "selection": metrics["frechet_distance"],
            **metrics,
            "feature_space": self.reference.space.name,
            **self._critic_facts(players),
        }

    def _write_grid(self, players: Players, step: int) -> None:
        z = fixed_latents(players.generator.latent)
        classes = players.generator.classes
        labels = torch.arange(len(z)) % classes if classes else None
        grid = to_grey_levels(_generate(players, z, labels))
        path = self.run.path / "samples" / f"step_{step:06d}.png"
        write_picture(path, grid, GREY_LEVELS)

    def _critic_facts(self, players: Players) -> dict[str, Any]:
        device = _device(players)
        facts = audit(
            players.critic,
            self.real.to(device),
            normalization=self.config.normalization,
            labels=self.real_labels.to(device) if self.real_labels is not None else None,
            eps=self.config.gran_eps,
            K=self.config.gradient_bound,
            lengths=(SLOPE_LENGTH,),
        )
        (slopes,) = facts.slopes
        return {
            "score_gradient_median": facts.gradient_norms[1],
            "score_gradient_max": facts.gradient_norms[-1],
            "slope_within_max": slopes.within,
            "slope_across_max": slopes.across,
            "slopes_above_one": slopes.above_one,
        }


def _generate(players: Players, z: Tensor, labels: Tensor | None) -> Tensor:
    """Return generated rows on the CPU, in blocks to save memory."""
    device = _device(players)
    blocks = []
    for start in range(0, len(z), ROWS_PER_BLOCK):
        end = start + ROWS_PER_BLOCK
        arguments = [z[start:end].to(device)]
        if labels is not None:
            arguments.append(labels[start:end].to(device))
        blocks.append(players.generator(*arguments))
    return torch.cat(blocks).float().cpu()


def _device(players: Players) -> torch.device:
    return next(players.parameters()).device
