"""``univae train-gan``: a GAN on images or a table, by default a Wasserstein GAN with gradient normalisation."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from experiments.cli.commands import run
from experiments.data.arrays import absolute_sources, describe
from experiments.data.notes import print_notes, with_notes
from experiments.data.sources import names_code
from experiments.evaluation.open_run import open_run
from experiments.gans.config import GanOptions, GanShape, Players, model_config
from experiments.gans.features import class_labels, feature_space
from experiments.gans.presets import PRESETS
from experiments.gans.samples import write_samples
from experiments.gans.task import GanTask, require_settings
from experiments.gans.validation import _Validation, parts, reference
from experiments.reports.page import write as write_report
from experiments.training.distributed import join
from experiments.training.loop import fit
from experiments.training.run_folder import Run, begin_run, or_nothing
from experiments.training.settings import Settings
from experiments.training.task import reseed
from gan.trained import TrainedGan
from univae.errors import InputError
from univae.rules import Rule, at_least, within

__all__ = ["PRESETS", "Config", "main", "train"]


@dataclass(frozen=True, kw_only=True)
class Config(Settings, GanOptions, GanShape):
    """Trains a GAN on a folder, .zip, .npz, .npy or IDX(.gz) of images or tables, or on a built-in set."""

    data: str  # a file, a folder, or a built-in name: digits, glyphs, stacked-glyphs, wine ...
    out: Path  # the run folder
    held_out: float = 0.1  # share of the data that is not trained on, to tell copies from new data
    # auto, the features/ folder of another run, or package.module:name of a network of yours
    features: str = "auto"
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
            raise InputError(
                f"ema must be 0: give the average's half-life with --ema-images; got ema={self.ema}"
            )
        if not self.features:
            raise InputError("features must be auto, a folder or a module:name; got features=''")


def main(config: Config) -> dict[str, Any]:
    """Train, then writes samples and the report.

    The JSON has the metrics of the last validation.
    """
    result = train(config)
    if int(os.environ.get("RANK", "0")) == 0:
        opened = open_run(TrainedGan, config.out, config.device)
        data, rows, _ = parts(config, opened.folder)
        write_samples(opened, data, rows)
        result["report"] = str(write_report(config.out))
    return {name: value for name, value in result.items() if name != "selection"}


def train(config: Config) -> dict[str, Any]:
    """What :func:`experiments.training.loop.fit` returns."""
    before = Run.open(config.out) if config.resume else None
    _refuse_stored_code(config, before)
    data, rows, held_out = parts(config, before)
    labels = class_labels(data)
    described = model_config(config, data, int(labels.max()) + 1 if labels is not None else 0)
    if len(data.shape) != 3 and (config.augment or config.flip or config.consistency):
        raise InputError(
            f"augment, flip and consistency are of images; {data.name} is a table; drop them"
        )
    reseed(config.seed, "weights")
    players = Players(described)
    config.recipe().check(players.critic)
    record = {"data": describe(data, config.data)}
    if config.features != "auto":  # refused, if at all, before there is a folder
        space = feature_space(data, config.out, config.features)
        record["features"] = {"source": config.features, "fingerprint": space.name, "count": 1}
    with join(
        config.device
    ) as world:  # once, for the classifier of the features is trained here too
        folder = begin_run(
            config.out, absolute_sources(dataclasses.asdict(config)), record, described
        )
        print_notes(data.notes)
        with or_nothing(folder):
            found = reference(config, data, rows, held_out)
            task = GanTask(
                players, config, config.seed, (data, rows), _Validation(config, found, folder)
            )
            images = config.batch_size * config.generator_ratio * world.size
            decay = 0.5 ** (images / config.ema_images) if config.ema_images else 0.0
            result = fit(task, Settings(**_settings(config) | {"ema": decay}), folder)
    return with_notes(result, [*data.notes, *result.get("notes", [])])


def _refuse_stored_code(config: Config, run: Run | None) -> None:
    """Raise :class:`InputError` where a run's feature space is code that this call does not name."""
    space = run.config.get("features") if run is not None else None
    if names_code(space) and config.features != space:
        raise InputError(
            f"{config.out}: its feature space {space} is code, which a run folder must not start; "
            f"repeat --features {space} to run it"
        )


def _settings(config: Config) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Settings)}


if __name__ == "__main__":
    run(Config, main)
