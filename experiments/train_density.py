"""``univae train-density``: a VAE on images or a table."""

from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch

from density.images.base import DataModel
from density.images.registry import build
from density.tables.inference import Choice
from density.trained import TrainedDensity
from experiments.calibration.options import Calibration
from experiments.calibration.phase import calibration_phase
from experiments.cli.commands import run
from experiments.data.arrays import Data
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ImageReading
from experiments.data.notes import print_notes
from experiments.data.records import absolute_sources
from experiments.evaluation.latent_model import of_training
from experiments.evaluation.open_run import open_run
from experiments.images.baselines import baseline_text, with_baselines, write_baselines
from experiments.images.binarisation import BINARISATIONS
from experiments.images.bounds import BOUNDS
from experiments.images.config import ImageShape, model_config
from experiments.images.presets import PRESETS
from experiments.images.samples import write_samples
from experiments.images.task import DensityTask, ImageObjective
from experiments.images.training_data import ArrayData, TrainingData, training_data
from experiments.reports.page import write as write_report
from experiments.training.command import Training
from experiments.training.command import train as train_command
from experiments.training.configuration import Configuration, Inherited, stored_configuration
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
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
from univae.checkpoint import JsonObject
from univae.latent.sampling import detached
from univae.vae.kl_weight import weight_notes

__all__ = ["PRESETS", "Config", "held_out_data", "main", "prepare", "train"]

MARGINAL_ROWS = 10_000  # rows whose marginals initialise the pixel distribution


@dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Trains a VAE on images or a table, and writes a run folder with a report."""

    out: Path  # run folder to write; a new or empty folder
    data: ArrayData
    images: ImageReading = field(default_factory=ImageReading)
    model: ImageShape = field(default_factory=ImageShape)
    objective: ImageObjective = field(default_factory=ImageObjective)
    training: Settings = field(default_factory=Settings)
    # off by default: a posterior that is trained as it is used has nothing to gain
    calibration: Calibration = field(default_factory=partial(Calibration, calibration=0.0))
    origin: Origin = field(default_factory=Origin)
    # kind of the run in config.json; leave it unchanged
    command: Literal["train-density"] = "train-density"

    # the model, what makes grey levels black or white, and the columns of a table
    INHERITED: ClassVar[Inherited] = Inherited(
        fixed=(
            *(field.name for field in fields(ImageShape)),
            "binarisation",
            *(field.name for field in fields(Choice)),
        )
    )


def main(config: Config) -> JsonObject:
    """Train, then write samples and the report.

    Returns:
        likelihood, bound, KL per latent layer and active units of the last validation.
    """

    def report() -> Path:
        trained = open_run(TrainedDensity, config.out, config.training.device)
        write_samples(trained, held_out_data(config))
        write_baselines(trained.folder)
        return write_report(config.out)

    config = inherit(config, config.INHERITED)
    result = train_command(
        config.out, config.training, lambda world: prepare(config, world), report
    )
    print_notes(baseline_text(result))
    return of_training(result)


def train(config: Config) -> JsonObject:
    """Train without samples and report.

    Returns:
        the result of :func:`experiments.training.loop.fit`, with notes on the data.
    """
    config = inherit(config, config.INHERITED)
    return train_command(config.out, config.training, lambda world: prepare(config, world))


def held_out_data(config: Config) -> torch.Tensor:
    """Return the rows of a run's validations, as the input of its model."""
    return _rows(config, Run.open(config.out)).held_out


def _rows(config: Config, run: Run | None) -> TrainingData:
    images = ImageFiles.for_run(config.images, config.out)
    origin = units_of(config.origin.from_run, resumed=run is not None)
    return training_data(config.data, config.objective, config.training.seed, run, images, origin)


def prepare(config: Config, world: World) -> Training:
    """Read the data, build the model, and start or continue the run with both recorded in it."""
    rows = _rows(config, Run.open(config.out) if config.training.resume else None)
    settled = BINARISATIONS[config.objective.binarisation].settled(rows.data)
    config = config.change(binarisation=settled)
    task = _task(config, rows)
    source = config.origin.from_run
    resumed = config.training.resume
    if source is not None and not resumed:
        require_model_of(source, task.module.config)
    record = rows.record | origin_record(source, config.out, resumed=resumed)
    folder = begin_run(config.out, absolute_sources(config.flat()), record, task.module.config)
    notes = (*rows.notes, *weight_notes(config.objective.kl_weight))
    print_notes(notes)

    settings = config.calibration.training(config.training)
    phase = with_baselines(calibration_phase(folder, config.calibration, config.training), rows)

    def steps(world: World) -> GradientSteps:
        return GradientSteps(task, settings, world)

    return Training(folder, settings, steps, notes=notes, after_training=phase)


def stored_task(path: Path, data: str = "") -> tuple[DensityTask, Settings]:
    """Return the task that a run was trained on, with a new model, and its settings.

    ``data`` are its training data where they have moved.
    """
    run = Run.open(path)
    config = stored_configuration(Config, run)
    if data:
        config = config.change(data=data)
    return _task(config, _rows(config, run)), config.training


def _task(config: Config, rows: TrainingData) -> DensityTask:
    data = BINARISATIONS[config.objective.binarisation].training_set(
        rows.data, config.training.seed
    )
    return DensityTask(
        _model(config, rows, data),
        config.objective,
        config.training.seed,
        (data, rows.rows),
        rows.held_out,
        rows.held_out_rows,
    )


def _model(config: Config, rows: TrainingData, data: Data) -> DataModel:
    """Return the model, whose initial pixel distribution is the marginals of the training set."""
    binarisation = BINARISATIONS[config.objective.binarisation]
    architecture = model_config(config.model, rows.data, binarisation.is_binary)
    reseed(config.training.seed, "weights")
    model = build(architecture)
    start = data.batch(rows.rows[:MARGINAL_ROWS])
    model.match_marginals(binarisation.marginal_rows(start, data.levels))
    if BOUNDS[config.objective.objective].detaches_posterior:
        # raises for a posterior whose parameters cannot be detached, before a run folder is created
        detached(model.posterior(start[:1]))
    return model


if __name__ == "__main__":
    run(Config, main)
