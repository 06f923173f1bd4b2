"""The tasks of the study of step sizes: a text VAE, an image VAE, and images that are rotated.

A run starts from one of them, an optimizer and a learning rate. The text task is a UniVAE on
``python-docs``, the image task a VAE on ``digits`` whose pixels are drawn black or white at every
visit. In the task ``shift`` the digits are rotated by 90 degrees in mid-training.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from experiments.data.arrays import Data
from experiments.data.binarisation import binarise
from experiments.data.readers import read
from experiments.data.texts import BUILT_IN, texts_of
from experiments.images.task import DensityTask, ImageObjective
from experiments.text.presets import MODELS
from experiments.text.task import TextObjective, TextTask
from experiments.training import optimizers
from experiments.training.loop import fit_task
from experiments.training.optimizers import OptimizerOptions
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress, reseed
from univae.checkpoint import JsonObject
from univae.optim.parameter_groups import parameter_groups
from univae.text.corpus import Corpus, split
from univae.text.tokenizers import train_tokenizer
from univae.vae.model import UniVAE, UniVAEConfig

__all__ = ["TASKS", "Config", "StudyTask", "TaskName", "prepare_corpus", "train"]

VOCABULARY = 2048
TOKENS = 1024  # padded tokens in an update of the text task
DIGITS = 50  # images in an update of the image tasks


@dataclass(frozen=True)
class StudyTask:
    """A row of :data:`TASKS`."""

    create: "Callable[[Config], TextTask | DensityTask]"
    steps: Callable[[argparse.Namespace], int]  # of training, by the options of the study
    validate_every: int = 0  # steps between validations; 0: only at the end


def _text_task(config: "Config") -> TextTask:
    corpus = Corpus.open(config.shared)
    # No batch normalisation of the means: its statistics would be those of half a batch in the arm
    # that measures step sizes on half-batches.
    shape = MODELS["tiny"] | {"bn_gamma": 0.0}
    model = UniVAE(UniVAEConfig(VOCABULARY, **shape))
    indices, held_out = split(len(corpus), 0.05, 0)
    objective = TextObjective(batch_tokens=TOKENS // config.accumulate, validation_samples=16)
    return TextTask(model, objective, config.seed, (corpus, indices), corpus.gather(held_out[:256]))


@dataclass(frozen=True)
class Digits:
    """Model, objective and data of the image tasks."""

    model: MLPVAE
    objective: ImageObjective
    data: Data
    training_rows: np.ndarray
    held_out: Tensor


def _digits(config: "Config") -> Digits:
    data = read("digits")
    training_rows, held_out_rows = split(len(data), 0.2, 0)
    objective = ImageObjective(
        binarisation="dynamic", batch_size=DIGITS // config.accumulate, validation_samples=16
    )
    model = MLPVAE(Pixels(data.shape), latents=(16,), hidden=((128, 128),))
    held_out = binarise(data, "static").batch(held_out_rows[:300])
    return Digits(model, objective, data, training_rows, held_out)


def _digits_task(config: "Config") -> DensityTask:
    digits = _digits(config)
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
        batches_per_step = 1 if digits.objective.batch_size == DIGITS else 2
        steps_per_epoch = len(super().batches(0)) // batches_per_step
        self.upright_epochs = self.upright_steps / steps_per_epoch

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
    digits = _digits(config)
    upright = digits.data.values
    rotated = np.rot90(upright, axes=(-2, -1))
    data = dataclasses.replace(digits.data, values=np.concatenate([upright, rotated]))
    held_out = torch.cat([digits.held_out, digits.held_out.rot90(dims=(-2, -1))])
    return RotationTask(config, digits, data, held_out)


TASKS: Mapping[str, StudyTask] = {
    "text": StudyTask(_text_task, lambda options: options.text_steps),
    "digits": StudyTask(_digits_task, lambda options: options.digit_steps),
    "shift": StudyTask(_rotation_task, lambda options: 2 * options.digit_steps, validate_every=20),
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
    prodigy: bool = False


def train(config: Config) -> JsonObject:
    """Train the task of a configuration; return the result of training."""
    folder = Run.create(config.out, dataclasses.asdict(config))
    reseed(config.seed, "weights")
    task = TASKS[config.task].create(config)
    return fit_task(task, config, folder, _prodigy if config.prodigy else optimizers.build)


def _prodigy(module: nn.Module, options: OptimizerOptions, device: torch.device) -> Optimizer:
    from prodigyopt import Prodigy

    groups = parameter_groups(module, options.weight_decay)
    betas = (options.beta1, options.beta2)
    optimizer: Optimizer = Prodigy(groups, lr=options.lr, betas=betas)
    return optimizer


def prepare_corpus(folder: Path) -> None:
    """Tokenise ``python-docs`` into ``folder``, where this is not done."""
    if not (folder / "DONE").exists():
        tokenizer = train_tokenizer("bpe", texts_of(BUILT_IN), VOCABULARY)
        max_length = MODELS["tiny"]["max_length"]
        Corpus.build(texts_of(BUILT_IN), tokenizer, folder, max_length=max_length)
        (folder / "DONE").touch()
