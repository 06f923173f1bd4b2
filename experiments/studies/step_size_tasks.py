"""The tasks of the study of step sizes, and the optimizers of other packages.

A run starts from a task, an optimizer and a learning rate. The text task is a UniVAE on
``python-docs``; ``digits`` a VAE of images whose pixels are drawn black or white at every visit;
``table`` a VAE of two layers on the 30 measurements of scikit-learn's breast cancer data, each in
eighths of equal counts. In the task ``shift`` the digits are rotated by 90 degrees in mid-training.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.optim import Optimizer

from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from experiments.data.arrays import Data
from experiments.data.binarisation import binarise
from experiments.data.readers import read
from experiments.images.task import DensityTask, ImageObjective
from experiments.studies.small_texts import small_text_task
from experiments.text.task import TextTask
from experiments.training import optimizers
from experiments.training.loop import fit_task
from experiments.training.optimizers import OptimizerOptions
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Batch, Item, Progress, Task, reseed
from univae.checkpoint import JsonObject, write_json
from univae.optim.parameter_groups import parameter_groups
from univae.text.corpus import split

__all__ = ["PACKAGES", "TASKS", "Config", "StudyTask", "TaskName", "train"]

Groups: TypeAlias = list[dict[str, Any]]

TOKENS = 512  # padded tokens in an update of the text task
DIGITS = 50  # images in an update of the image tasks
ROWS = 50  # rows in an update of the table task
LEVELS = 8  # of a measurement of the table


@dataclass(frozen=True)
class StudyTask:
    """A row of :data:`TASKS`."""

    create: "Callable[[Config], TextTask | DensityTask]"
    steps: Callable[[argparse.Namespace], int]  # of training, by the options of the study
    validate_every: int = 0  # steps between validations; 0: only at the end


def _text_task(config: "Config") -> TextTask:
    return small_text_task(config.shared, TOKENS, config.seed)


@dataclass(frozen=True)
class Digits:
    """Model, objective and data of the image tasks."""

    model: MLPVAE
    objective: ImageObjective
    data: Data
    training_rows: np.ndarray
    held_out: Tensor


def _digits() -> Digits:
    data = read("digits")
    training_rows, held_out_rows = split(len(data), 0.2, 0)
    objective = ImageObjective(binarisation="dynamic", batch_size=DIGITS, validation_samples=16)
    model = MLPVAE(Pixels(data.shape), latents=(16,), hidden=((128, 128),))
    held_out = binarise(data, "static").batch(held_out_rows[:300])
    return Digits(model, objective, data, training_rows, held_out)


def _digits_task(config: "Config") -> DensityTask:
    digits = _digits()
    return DensityTask(
        digits.model,
        digits.objective,
        config.seed,
        (digits.data, digits.training_rows),
        digits.held_out,
    )


class RotationTask(DensityTask):
    """Digits, upright in the first half of training and rotated by 90 degrees in the second.

    ``data`` and ``held_out`` have the upright images first, then the rotated ones.
    """

    def __init__(self, config: "Config", digits: Digits, data: Data, held_out: Tensor) -> None:
        training_set = (data, digits.training_rows)
        super().__init__(digits.model, digits.objective, config.seed, training_set, held_out)
        self.upright_steps = config.steps // 2
        self.upright_epochs = self.upright_steps / len(super().batches(0))

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the batches of an epoch, those of the second half with rotated digits."""
        upright = super().batches(epoch)
        upright_fraction = min(1.0, max(0.0, self.upright_epochs - epoch))
        upright_count = round(upright_fraction * len(upright))
        rotated = [batch + len(self.data) // 2 for batch in upright[upright_count:]]
        return [*upright[:upright_count], *rotated]

    def validate(self, progress: Progress) -> JsonObject:
        """Validate on upright or on rotated digits, as training does at this step."""
        held_out = self.held_out
        upright, rotated = held_out.chunk(2)
        self.held_out = upright if progress.step <= self.upright_steps else rotated
        try:
            return super().validate(progress)
        finally:
            self.held_out = held_out


def _rotation_task(config: "Config") -> RotationTask:
    digits = _digits()
    upright = digits.data.values
    rotated = np.rot90(upright, axes=(-2, -1))
    data = dataclasses.replace(digits.data, values=np.concatenate([upright, rotated]))
    held_out = torch.cat([digits.held_out, digits.held_out.rot90(dims=(-2, -1))])
    return RotationTask(config, digits, data, held_out)


def _table_task(config: "Config") -> DensityTask:
    values = eighths(load_breast_cancer().data)
    data = Data(values, LEVELS, None, "breast cancer", "table")
    training_rows, held_out_rows = split(len(data), 0.2, 0)
    model = MLPVAE(
        Pixels(data.shape, "categorical", LEVELS), latents=(16, 8), hidden=((128,), (64,))
    )
    objective = ImageObjective(batch_size=ROWS, validation_samples=16)
    held_out = data.batch(held_out_rows)
    return DensityTask(model, objective, config.seed, (data, training_rows), held_out)


def eighths(values: np.ndarray) -> np.ndarray:
    """Return columns (N, C) of real numbers as levels of about equal counts, 0 to 7."""
    edges = np.quantile(values, np.arange(1, LEVELS) / LEVELS, axis=0)
    return (values[None] > edges[:, None]).sum(0).astype(np.uint8)


TASKS: Mapping[str, StudyTask] = {
    "text": StudyTask(_text_task, lambda options: options.text_steps),
    "digits": StudyTask(_digits_task, lambda options: options.digit_steps),
    "table": StudyTask(_table_task, lambda options: options.table_steps),
    "shift": StudyTask(_rotation_task, lambda options: 2 * options.shift_steps, validate_every=20),
}

if TYPE_CHECKING:
    TaskName: TypeAlias = str
else:
    TaskName = Literal[tuple(TASKS)]


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A run of the study."""

    out: Path
    shared: Path  # the tokenised corpus
    task: TaskName
    package: str = ""  # a row of PACKAGES, instead of --optimizer
    d0: float = 1e-6  # first estimate of the step size, of packages that have one


def train(config: Config) -> JsonObject:
    """Train the task of a configuration; return the result, with the processor time."""
    start = time.process_time()
    folder = Run.create(config.out, dataclasses.asdict(config))
    reseed(config.seed, "weights")
    task = TASKS[config.task].create(config)
    if config.package:
        switched = Switched(task)
        result = fit_task(switched, config, folder, switched.builder(config))
    else:
        result = fit_task(task, config, folder)
    result["processor_seconds"] = time.process_time() - start
    write_json(config.out / "DONE", result)
    return result


@runtime_checkable
class Switching(Protocol):
    """An optimizer that trains at other weights than those to use, as schedule-free AdamW does."""

    def eval(self) -> None:
        """Give the parameters the weights to use."""
        ...

    def train(self) -> None:
        """Give the parameters the weights to train at."""
        ...


class Switched(Generic[Item, Batch]):
    """A task that is validated at the weights to use, where its optimizer is switching."""

    def __init__(self, task: Task[Item, Batch]) -> None:
        self.task = task
        self.module = task.module
        self.optimizer: Optimizer | None = None

    def builder(self, config: Config) -> optimizers.Build:
        """Return the function that makes the optimizer of the package."""

        def build(module: nn.Module, options: OptimizerOptions, device: torch.device) -> Optimizer:
            groups = parameter_groups(module, options.weight_decay)
            betas = (options.beta1, options.beta2)
            optimizer = PACKAGES[config.package](groups, betas, config)
            if isinstance(optimizer, Switching):
                optimizer.train()
            self.optimizer = optimizer
            return optimizer

        return build

    def batches(self, epoch: int) -> Sequence[Item]:
        """Return the batches of an epoch."""
        return self.task.batches(epoch)

    def load(self, item: Item) -> Batch:
        """Return the data of a batch."""
        return self.task.load(item)

    def weight(self, batch: Batch) -> int:
        """Return the number of targets of a batch."""
        return self.task.weight(batch)

    def loss(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum to minimise over a batch, and its parts."""
        return self.task.loss(batch, progress)

    def validate(self, progress: Progress) -> JsonObject:
        """Return the metrics of the held-out data, at the weights for validation."""
        if not isinstance(self.optimizer, Switching):
            return self.task.validate(progress)
        self.optimizer.eval()
        try:
            return self.task.validate(progress)
        finally:
            self.optimizer.train()


def _prodigy(groups: Groups, betas: tuple[float, float], config: Config) -> Optimizer:
    from prodigyopt import Prodigy

    optimizer: Optimizer = Prodigy(groups, lr=config.lr, betas=betas, d0=config.d0)
    return optimizer


def _d_adaptation(groups: Groups, betas: tuple[float, float], config: Config) -> Optimizer:
    from dadaptation import DAdaptAdam

    optimizer: Optimizer = DAdaptAdam(
        groups, lr=config.lr, betas=betas, d0=config.d0, decouple=True
    )
    return optimizer


def _schedule_free(groups: Groups, betas: tuple[float, float], config: Config) -> Optimizer:
    from schedulefree import AdamWScheduleFree

    optimizer: Optimizer = AdamWScheduleFree(groups, lr=config.lr, betas=betas)
    return optimizer


PACKAGES: Mapping[str, Callable[[Groups, tuple[float, float], Config], Optimizer]] = {
    "prodigy": _prodigy,
    "d-adaptation": _d_adaptation,
    "schedule-free": _schedule_free,
}
