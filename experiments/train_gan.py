"""``univae train-gan``: a GAN on images or a table, by default a Wasserstein GAN with gradient normalisation."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from experiments.cli import run
from experiments.data import Data, absolute_sources, all_alike, describe, read
from experiments.distributed import join
from experiments.features import class_labels, feature_space
from experiments.gan_measure import Reference
from experiments.gan_presets import PRESETS
from experiments.gan_run import GanOptions, GanRun, GanShape, Players, in_units_of, model_config, seen, shown
from experiments.gan_samples import fixed_latents, write_samples
from experiments.gan_task import GanTask, require_settings
from experiments.image_samples import write_picture
from experiments.loop import fit
from experiments.notes import print_notes, with_notes
from experiments.options import names_code
from experiments.report import write as write_report
from experiments.run import Run, begin_run, or_nothing
from experiments.settings import Settings
from experiments.task import Progress, reseed
from gan.audit import audit
from univae.corpus import split
from univae.errors import InputError
from univae.rules import Rule, at_least, within

__all__ = ["PRESETS", "Config", "main", "reference", "train"]


@dataclass(frozen=True, kw_only=True)
class Config(Settings, GanOptions, GanShape):
    """Trains a GAN on a folder, .zip, .npz, .npy or IDX(.gz) of images or tables, or on a built-in set."""

    data: str  # a file, a folder, or a built-in name: digits, glyphs, stacked-glyphs, wine ...
    out: Path  # the run folder
    held_out: float = 0.1  # share of the data that is not trained on, to tell copies from new data
    features: str = "auto"  # auto, the features/ folder of another run, or package.module:name of a network of yours
    feature_steps: int = 400  # of training the classifier that auto means for labelled images
    validation_data: int = 2000  # generated data that a validation measures, and as many real ones
    lr: float = 2e-4  # of the critic
    lr_floor: float = 1.0  # fraction of both rates that is left at the end
    warmup: float = 0.0  # fraction of training over which both rates rise
    beta1: float = 0.0  # decay of the mean gradient of both optimizers
    beta2: float = 0.9
    weight_decay: float = 0.0
    clip: float = 0.0  # largest norm of either network's gradient; 0: no limit
    command: Literal["train-gan"] = "train-gan"  # what made the run folder; leave it

    RULES: ClassVar[Mapping[str, Rule]] = {
        "held_out": within("(0, 1)", "a share of the data"),
        "feature_steps": at_least(1),
        "validation_data": at_least(10, 10**7),
    }

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        GanOptions.__post_init__(self)
        require_settings(self)
        if self.ema:
            raise InputError(f"ema must be 0: give the average's half-life with --ema-images; got ema={self.ema}")
        if not self.features:
            raise InputError("features must be auto, a folder or a module:name; got features=''")


def main(config: Config) -> dict[str, Any]:
    """Trains, then writes samples and the report; the JSON has the metrics of the last validation."""
    result = train(config)
    if int(os.environ.get("RANK", "0")) == 0:
        opened = GanRun(config.out, config.device)
        data, rows, _ = parts(config, opened.run)
        write_samples(opened, data, rows)
        result["report"] = str(write_report(config.out))
    return {name: value for name, value in result.items() if name != "selection"}


def train(config: Config) -> dict[str, Any]:
    """What :func:`experiments.loop.fit` returns."""
    before = Run.open(config.out) if config.resume else None
    _refuse_stored_code(config, before)
    data, rows, held_out = parts(config, before)
    labels = class_labels(data)
    described = model_config(config, data, int(labels.max()) + 1 if labels is not None else 0)
    if len(data.shape) != 3 and (config.augment or config.flip or config.consistency):
        raise InputError(f"augment, flip and consistency are of images; {data.name} is a table; drop them")
    reseed(config.seed, "weights")
    players = Players(described)
    config.recipe().check(players.critic)
    record = {"data": describe(data, config.data)}
    if config.features != "auto":  # refused, if at all, before there is a folder
        space = feature_space(data, config.out, config.features)
        record["features"] = {"source": config.features, "fingerprint": space.name, "count": 1}
    with join(config.device) as world:  # once, for the classifier of the features is trained here too
        folder = begin_run(config.out, absolute_sources(dataclasses.asdict(config)), record, described)
        print_notes(data.notes)
        with or_nothing(folder):
            found = reference(config, data, rows, held_out)
            task = GanTask(players, config, config.seed, (data, rows), _Validation(config, found, folder))
            images = config.batch_size * config.generator_ratio * world.size
            decay = 0.5 ** (images / config.ema_images) if config.ema_images else 0.0
            result = fit(task, Settings(**_settings(config) | {"ema": decay}), folder)
    return with_notes(result, [*data.notes, *result.get("notes", [])])


def parts(config: Config, run: Run | None = None) -> tuple[Data, np.ndarray, Tensor]:
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
        raise InputError(f"needs {least} data to train on, a batch at least; {data.name} leaves {len(rows)}")
    if len(others) < 2:
        raise InputError(
            f"2 held-out rows are needed; {len(data)} rows with --held-out {config.held_out:g} give {len(others)}"
        )
    if all_alike(data):
        raise InputError(f"--data {config.data}: all {len(data)} rows are alike; give data that differ")
    return data, rows, seen(data, others[:5000])


def reference(config: Config, data: Data, rows: np.ndarray, held_out: Tensor, count: int = 0) -> Reference:
    """What a validation compares with."""
    where = config.out / "features"
    space = feature_space(data, where, config.features, config.feature_steps, config.threads, config.device)
    return Reference(data, rows, held_out, space, count or config.validation_data)


def _refuse_stored_code(config: Config, run: Run | None) -> None:
    """Raise :class:`InputError` where a run's feature space is code that this call does not name."""
    space = run.config.get("features") if run is not None else None
    if names_code(space) and config.features != space:
        raise InputError(
            f"{config.out}: its feature space {space} is code, which a run folder must not start; "
            f"repeat --features {space} to run it"
        )


class _Validation:
    """Metrics of the generator and facts about the critic, and a grid of the same latents each time."""

    def __init__(self, config: Config, found: Reference, folder: Run) -> None:
        self.config, self.found, self.folder = config, found, folder
        labels = class_labels(found.data)
        self.labels = labels if config.conditional else None
        self.real = found.first[:128]
        self.real_labels = self.labels[found.order[: len(self.real)]] if self.labels is not None else None

    def __call__(self, players: Players, progress: Progress) -> dict[str, Any]:
        device = next(players.parameters()).device
        z = torch.randn(self.found.count, players.generator.latent)
        labels = self.labels[torch.randint(len(self.labels), (len(z),))] if self.labels is not None else None
        row = self.found.measure(_generated(players, z, labels, device))
        if len(self.found.data.shape) == 3:
            z = fixed_latents(players.generator.latent)
            labels = torch.arange(len(z)) % players.generator.classes if players.generator.classes else None
            grid = shown(_generated(players, z, labels, device))
            write_picture(self.folder.path / "samples" / f"step_{progress.step:06d}.png", grid, 256)
        return {"selection": row["frechet_distance"], **row, "feature_space": self.found.space.name} | self._critic(
            players
        )

    def _critic(self, players: Players) -> dict[str, Any]:
        device = next(players.parameters()).device
        given: dict[str, Any] = {"normalization": self.config.normalization, "eps": self.config.gran_eps}
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


def _settings(config: Config) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Settings)}


if __name__ == "__main__":
    run(Config, main)
