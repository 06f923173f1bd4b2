"""``univae train-gan``: train a GAN on images or a table, by default gradient-normalised."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar, Literal

from experiments.cli.commands import run
from experiments.data.arrays import Data
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ImageReading
from experiments.data.notes import print_notes
from experiments.data.records import absolute_sources, describe
from experiments.data.sources import names_code
from experiments.evaluation.latent_model import without_selection
from experiments.evaluation.open_run import open_run
from experiments.gans.config import PENALTY_OPTIONS, GanOptions, GanShape, model_config
from experiments.gans.features import AUTO, class_labels, open_feature_space
from experiments.gans.presets import PRESETS
from experiments.gans.samples import write_samples
from experiments.gans.task import GanTask, PlayerSteps, require_settings
from experiments.gans.training_data import GanData, TrainingRows, training_rows
from experiments.gans.validation import GeneratorValidation, reference
from experiments.reports.page import write as write_report
from experiments.training.command import Training
from experiments.training.command import train as train_command
from experiments.training.configuration import Configuration, Inherited
from experiments.training.distributed import World
from experiments.training.origin import (
    Origin,
    inherit,
    origin_record,
    require_model_of,
    units_of,
)
from experiments.training.run_folder import Run, begin_run
from experiments.training.settings import Settings
from experiments.training.task import reseed
from gan.penalties import PENALTIES
from gan.players import Players
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = ["PRESETS", "Config", "main", "prepare", "train"]


def _settings() -> Settings:
    """Return the defaults for two players: a constant learning rate, no momentum, no clipping."""
    return Settings(
        lr=2e-4, lr_floor=1.0, warmup=0.0, beta1=0.0, beta2=0.9, weight_decay=0.0, clip=0.0
    )


@dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Trains a GAN on images or a table, and writes a run folder with a report."""

    out: Path  # run folder to write; a new or empty folder
    data: GanData
    images: ImageReading = field(default_factory=ImageReading)
    model: GanShape = field(default_factory=GanShape)
    players: GanOptions = field(default_factory=GanOptions)
    training: Settings = field(default_factory=_settings)
    origin: Origin = field(default_factory=Origin)
    # kind of the run in config.json; leave it unchanged
    command: Literal["train-gan"] = "train-gan"

    INHERITED: ClassVar[Inherited] = Inherited(
        fixed=tuple(field.name for field in fields(GanShape))
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_settings(self.training)
        if self.training.ema:
            raise InputError(
                "ema must be 0: give the average's half-life with --ema-images; "
                f"got ema={self.training.ema}"
            )

    def rows(self, run: RunFolder | None = None) -> TrainingRows:
        """Read the data in the units of ``run``, by default of a new run."""
        images = ImageFiles.for_run(self.images, self.out)
        origin = units_of(self.origin.from_run, resumed=run is not None)
        batch_size = self.players.batch_size
        return training_rows(self.data, batch_size, self.training.seed, run, images, origin)


def main(config: Config) -> JsonObject:
    """Train, write samples and the report, and return the metrics of the last validation."""

    def report() -> Path:
        trained = open_run(TrainedGan, config.out, config.training.device)
        training_set = config.rows(trained.folder)
        write_samples(trained, training_set.data, training_set.rows)
        return write_report(config.out)

    config = inherit(config, config.INHERITED)
    result = train_command(
        config.out, config.training, lambda world: prepare(config, world), report
    )
    return without_selection(result)


def train(config: Config) -> JsonObject:
    """Train without samples and report; return the result of training."""
    config = inherit(config, config.INHERITED)
    return train_command(config.out, config.training, lambda world: prepare(config, world))


def prepare(config: Config, world: World) -> Training:
    """Read the data, build both networks, and begin or continue the run folder."""
    resumed = Run.open(config.out) if config.training.resume else None
    _refuse_stored_code(config, resumed)
    rows = config.rows(resumed)
    labels = class_labels(rows.data)
    classes = int(labels.max()) + 1 if labels is not None else 0
    networks = model_config(config.model, rows.data, classes)
    _require_images(config, rows.data)
    reseed(config.training.seed, "weights")
    players = Players(networks)
    config.players.recipe().check(players.critic)

    source = config.origin.from_run
    if source is not None and resumed is None:
        require_model_of(source, networks)
    record = _data_record(config, rows.data)
    record |= origin_record(source, config.out, resumed=resumed is not None)
    folder = begin_run(config.out, absolute_sources(config.flat()), record, networks)
    print_notes(rows.data.notes)
    settings = _with_average(config, world)

    def steps(world: World) -> PlayerSteps:
        real_rows = reference(config.data, config.training, config.out, rows)
        validate = GeneratorValidation(
            real_rows, config.players, folder, conditional=config.model.conditional
        )
        training_set = (rows.data, rows.rows)
        seed = config.training.seed
        count = real_rows.count
        task = GanTask(players, config.players, seed, training_set, validate, count)
        return PlayerSteps(task, config.training, world)

    return Training(folder, settings, steps, notes=rows.data.notes)


def _data_record(config: Config, data: Data) -> JsonObject:
    """Return the record of the data, and of a feature space that is not trained with the run.

    Opening the feature space raises the errors of ``--features`` before the run folder exists.
    """
    record: JsonObject = {"data": describe(data, config.data.data)}
    source = config.data.features
    if source != AUTO:
        space = open_feature_space(data, config.out, source)
        record["features"] = {"source": source, "fingerprint": space.name, "count": 1}
    return record


def _refuse_stored_code(config: Config, run: Run | None) -> None:
    """Raise InputError where a run's feature space is code that ``--features`` does not name."""
    space = run.config.get("features") if run is not None else None
    if names_code(space) and config.data.features != space:
        raise InputError(
            f"{config.out}: its feature space {space} is code, which a run folder must not start; "
            f"repeat --features {space} to run it"
        )


def _require_images(config: Config, data: Data) -> None:
    """Raise InputError for options of images where the data are a table."""
    if data.is_images:
        return
    names = [name for name in ("augment", "flip") if getattr(config.players, name)]
    for name in config.players.recipe().penalties.used():
        if PENALTIES[name].images_only:
            names.append(PENALTY_OPTIONS[name])
    if names:
        options = " ".join(f"--{name.replace('_', '-')}" for name in names)
        raise InputError(f"{options}: for images only; --data {data.name} is a table; drop it")


def _with_average(config: Config, world: World) -> Settings:
    """Return the settings with the decay per step that gives the half-life ``--ema-images``."""
    options = config.players
    if not options.ema_images:
        return replace(config.training, ema=0.0)
    images_per_step = options.batch_size * options.generator_ratio * world.size
    return replace(config.training, ema=0.5 ** (images_per_step / options.ema_images))


if __name__ == "__main__":
    run(Config, main)
