"""Data of a GAN run, what its validation compares with, and the validation."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from experiments.data.arrays import Data, all_alike, describe, read
from experiments.gans.config import Players
from experiments.gans.evaluation import Reference
from experiments.gans.features import class_labels, feature_space
from experiments.gans.samples import fixed_latents
from experiments.gans.scaling import in_units_of, seen, shown
from experiments.reports.image_grid import write_picture
from experiments.training.run_folder import Run
from experiments.training.task import Progress
from gan.audit import audit
from gan.penalties import Normalization
from univae.errors import InputError
from univae.run_folder import RunFolder
from univae.text.corpus import split

__all__ = ["ValidationOptions", "parts", "reference"]


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
    def normalization(self) -> Normalization: ...

    @property
    def out(self) -> Path: ...

    @property
    def seed(self) -> int: ...

    @property
    def threads(self) -> int: ...

    @property
    def validation_data(self) -> int: ...


def parts(
    config: ValidationOptions, run: RunFolder | None = None
) -> tuple[Data, np.ndarray, Tensor]:
    """Return data, indices trained on, and held-out rows, in the units of ``run`` or of a new one.

    Raises:
        InputError: the data are not those of ``run``, too few, or all alike.
    """
    data = read(config.data)
    if run is not None and run.data_record():
        record = {**run.data_record(), "data": describe(data, config.data)}
        Run(run.path, {"resume": True}).record_data(record)
    data = in_units_of(data, run)
    rows, others = split(len(data), config.held_out, config.seed)
    least = max(20, config.batch_size)
    if len(rows) < least:
        raise InputError(
            f"needs {least} data to train on, a batch at least; {data.name} leaves {len(rows)}"
        )
    if len(others) < 2:
        raise InputError(
            f"2 held-out rows are needed; {len(data)} rows with --held-out {config.held_out:g} give {len(others)}"
        )
    if all_alike(data):
        raise InputError(
            f"--data {config.data}: all {len(data)} rows are alike; give data that differ"
        )
    return data, rows, seen(data, others[:5000])


def reference(
    config: ValidationOptions, data: Data, rows: np.ndarray, held_out: Tensor, count: int = 0
) -> Reference:
    """What a validation compares with."""
    where = config.out / "features"
    space = feature_space(
        data, where, config.features, config.feature_steps, config.threads, config.device
    )
    return Reference(data, rows, held_out, space, count or config.validation_data)


class _Validation:
    """Metrics of the generator and facts about the critic, and a grid of the same latents each time."""

    def __init__(self, config: ValidationOptions, found: Reference, folder: Run) -> None:
        self.config = config
        self.found = found
        self.folder = folder
        labels = class_labels(found.data)
        self.labels = labels if config.conditional else None
        self.real = found.first[:128]
        self.real_labels = (
            self.labels[found.order[: len(self.real)]] if self.labels is not None else None
        )

    def __call__(self, players: Players, progress: Progress) -> dict[str, Any]:
        device = next(players.parameters()).device
        z = torch.randn(self.found.count, players.generator.latent)
        labels = (
            self.labels[torch.randint(len(self.labels), (len(z),))]
            if self.labels is not None
            else None
        )
        row = self.found.measure(_generated(players, z, labels, device))
        if len(self.found.data.shape) == 3:
            z = fixed_latents(players.generator.latent)
            labels = (
                torch.arange(len(z)) % players.generator.classes
                if players.generator.classes
                else None
            )
            grid = shown(_generated(players, z, labels, device))
            write_picture(self.folder.path / "samples" / f"step_{progress.step:06d}.png", grid, 256)
        return {
            "selection": row["frechet_distance"],
            **row,
            "feature_space": self.found.space.name,
        } | self._critic(players)

    def _critic(self, players: Players) -> dict[str, Any]:
        device = next(players.parameters()).device
        given: dict[str, Any] = {
            "normalization": self.config.normalization,
            "eps": self.config.gran_eps,
        }
        given |= {"K": self.config.gradient_bound, "lengths": (1e-2,)}
        labels = self.real_labels.to(device) if self.real_labels is not None else None
        facts = audit(players.critic, self.real.to(device), labels=labels, **given)
        (slopes,) = facts.slopes
        return {
            "score_gradient_median": facts.gradient_norms[1],
            "score_gradient_max": facts.gradient_norms[-1],
            "slope_within_max": slopes.within,
            "slope_across_max": slopes.across,
            "slopes_above_one": slopes.above_one,
        }


def _generated(players: Players, z: Tensor, labels: Tensor | None, device: torch.device) -> Tensor:
    made = []
    for start in range(0, len(z), 256):
        own = () if labels is None else (labels[start : start + 256].to(device),)
        made.append(players.generator(z[start : start + 256].to(device), *own))
    return torch.cat(made).float().cpu()
