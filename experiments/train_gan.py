"""``univae train-gan``: a GAN on images or a table, by default gradient-normalised."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from experiments.cli.commands import run
from experiments.data.arrays import Data
from experiments.data.notes import print_notes
from experiments.data.records import absolute_sources, describe
from experiments.data.sources import names_code
from experiments.evaluation.open_run import open_run
from experiments.gans.config import GanOptions, GanShape, model_config
from experiments.gans.features import class_labels, open_feature_space
from experiments.gans.presets import PRESETS
from experiments.gans.samples import write_samples
from experiments.gans.task import GanTask, PlayerSteps, require_settings
from experiments.gans.training_data import GanData, TrainingRows, training_rows
from experiments.gans.validation import GeneratorValidation, reference
from experiments.reports.page import write as write_report
from experiments.training.command import Training
from experiments.training.command import train as train_command
from experiments.training.configuration import Configuration
from experiments.training.distributed import World
from experiments.training.run_folder import Run, begin_run
from experiments.training.settings import Settings
from experiments.training.task import reseed
from gan.players import Players
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = ["PRESETS", "Config", "main", "train"]


def _settings() -> Settings:
    """Return the defaults for two players: a constant rate, no momentum, decay or clipping."""
    return Settings(
        lr=2e-4, lr_floor=1.0, warmup=0.0, beta1=0.0, beta2=0.9, weight_decay=0.0, clip=0.0
    )


@dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Train a GAN on images or a table, and write a run folder with a report."""

    out: Path  # the run folder
    data: GanData
    model: GanShape = field(default_factory=GanShape)
    players: GanOptions = field(default_factory=GanOptions)
    training: Settings = field(default_factory=_settings)
    command: Literal["train-gan"] = "train-gan"  # what wrote the run folder; leave it

    def __post_init__(self) -> None:
        super().__post_init__()
        require_settings(self.training)
        if self.training.ema:
            raise InputError(
                "ema must be 0: give the average's half-life with --ema-images; "
                f"got ema={self.training.ema}"
            )

    def rows(self, run: RunFolder | None = None) -> TrainingRows:
        """Read its data, in the units of ``run`` or of a new one."""
        return training_rows(self.data, self.players.batch_size, self.training.seed, run)


def main(config: Config) -> JsonObject:
    """Train, then write samples and the report.

    Returns:
        the metrics of the last validation.
    """

    def report() -> Path:
        trained = open_run(TrainedGan, config.out, config.training.device)
        data, rows, _ = config.rows(trained.folder)
        write_samples(trained, data, rows)
        return write_report(config.out)

    result = train_command(config.training, lambda world: _prepare(config, world), report)
    return {name: value for name, value in result.items() if name != "selection"}


def train(config: Config) -> JsonObject:
    """Train without samples and report.

    Returns:
        what :func:`experiments.training.loop.fit` does.
    """
    return train_command(config.training, lambda world: _prepare(config, world))


def _prepare(config: Config, world: World) -> Training:
    """Read the data, build both networks, and start or continue the run with all recorded in it."""
    before = Run.open(config.out) if config.training.resume else None
    _refuse_stored_code(config, before)
    rows = config.rows(before)
    labels = class_labels(rows.data)
    classes = int(labels.max()) + 1 if labels is not None else 0
    described = model_config(config.model, rows.data, classes)
    _refuse_augmented_tables(config, rows.data)
    reseed(config.training.seed, "weights")
    players = Players(described)
    config.players.recipe().check(players.critic)

    record = {"data": describe(rows.data, config.data.data)}
    if config.data.features != "auto":  # refused, if at all, before there is a folder
        space = open_feature_space(rows.data, config.out, config.data.features)
        source = config.data.features
        record["features"] = {"source": source, "fingerprint": space.name, "count": 1}
    folder = begin_run(config.out, absolute_sources(config.flat()), record, described)
    print_notes(rows.data.notes)
    settings = _with_average(config, world)

    def steps(world: World) -> PlayerSteps:
        compared = reference(config.data, config.training, config.out, rows)
        validate = GeneratorValidation(compared, config.players, folder, config.model.conditional)
        training_set = (rows.data, rows.rows)
        task = GanTask(players, config.players, config.training.seed, training_set, validate)
        return PlayerSteps(task, config.training, world)

    return Training(folder, settings, steps, notes=rows.data.notes)


def _refuse_stored_code(config: Config, run: Run | None) -> None:
    """Raise InputError where a run's feature space is code that this call does not name."""
    space = run.config.get("features") if run is not None else None
    if names_code(space) and config.data.features != space:
        raise InputError(
            f"{config.out}: its feature space {space} is code, which a run folder must not start; "
            f"repeat --features {space} to run it"
        )


def _refuse_augmented_tables(config: Config, data: Data) -> None:
    """Raise InputError where options of images are given for a table."""
    options = config.players
    if not data.is_images and (options.augment or options.flip or options.consistency):
        raise InputError(
            f"augment, flip and consistency are of images; {data.name} is a table; drop them"
        )


def _with_average(config: Config, world: World) -> Settings:
    """Return the settings with the decay per step of the generator's moving average.

    ``--ema-images`` is its half-life in images that the generator was trained on.
    """
    options = config.players
    if not options.ema_images:
        return replace(config.training, ema=0.0)
    images_per_step = options.batch_size * options.generator_ratio * world.size
    return replace(config.training, ema=0.5 ** (images_per_step / options.ema_images))


if __name__ == "__main__":
    run(Config, main)
