"""The training of models beside the UniVAE on its texts, batches and schedule, in a run folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from torch import Tensor, nn

from experiments.studies.ptb_models import LanguageModel, Objective, Peer
from experiments.text.corpora import Corpora
from experiments.text.data_options import TextData
from experiments.text.task import TextObjective
from experiments.text.token_task import TokenTask
from experiments.train_text import ModelOptions
from experiments.training.command import prepare_corpora
from experiments.training.command import train as train_command
from experiments.training.configuration import Configuration, stored_configuration
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.run_folder import Run
from experiments.training.run_tokenizer import open_tokenizer
from experiments.training.settings import Settings
from experiments.training.task import Progress, reseed
from univae.checkpoint import JsonObject
from univae.checksums import WEIGHTS
from univae.text.corpus import Corpus
from univae.vae.config import UniVAEConfig
from univae.vae.trained import model_config
from univae.weights_file import load_weights

__all__ = ["MODELS", "Config", "ModelName", "OwnTask", "open_model", "train"]

KL_FLOOR = 8.0  # nats of KL without cost, over all dimensions of the peer's latent
TOKENS = 22.1  # of a text of the training set, its end token included


def _peer(config: UniVAEConfig, kl_weight: float) -> Peer:
    dimensions = config.latent_layers * config.latent_width
    return Peer(config, kl_weight, KL_FLOOR / dimensions)


MODELS: Mapping[str, Callable[[UniVAEConfig], nn.Module]] = {
    "lm": LanguageModel,
    "peer": partial(_peer, kl_weight=1.0),
    "peer_bound": partial(_peer, kl_weight=1 / TOKENS),
}

if TYPE_CHECKING:
    ModelName: TypeAlias = str
else:
    ModelName = Literal[tuple(MODELS)]


@dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """A run of the study whose model is no UniVAE."""

    out: Path
    arm: ModelName
    data: TextData
    model: ModelOptions = field(default_factory=ModelOptions)
    objective: TextObjective = field(default_factory=TextObjective)
    training: Settings = field(default_factory=Settings)
    command: Literal["ptb"] = "ptb"

    @property
    def corpora(self) -> Corpora:
        """The token ids of the texts, those of a UniVAE with the same options."""
        shape = self.model
        return Corpora(self.data, self.out, self.training.seed, shape.max_length, shape.vocab_size)


class OwnTask(TokenTask[nn.Module]):
    """Minimise the loss of a model on batches of equal numbers of tokens, as ``train-text`` does.

    Args:
        model: the model to train, with its loss and its validation.
        options: the size of batches, and of validations.
        seed: of the order of the texts.
        train: a corpus, and the indices of its texts to train on.
        held_out: the texts of validations, padded ids (N, T).
    """

    def __init__(
        self,
        model: nn.Module,
        options: TextObjective,
        seed: int,
        train: tuple[Corpus, np.ndarray],
        held_out: Tensor,
    ) -> None:
        if not isinstance(model, Objective):
            raise TypeError(f"{type(model).__name__} has no loss(ids) and validate(ids, samples)")
        super().__init__(model, options.batch_tokens, seed, train, held_out)
        self.objective: Objective = model
        self.validation_samples = options.validation_samples

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the model, summed over the tokens of a batch."""
        return self.objective.loss(batch)

    def measure(self, held_out: Tensor) -> JsonObject:
        """Return the metrics of held-out texts."""
        return self.objective.validate(held_out, self.validation_samples)


def train(config: Config) -> JsonObject:
    """Train the model of a configuration; return the result, which is written to ``DONE``."""

    def steps(world: World) -> GradientSteps[np.ndarray, Tensor]:
        return GradientSteps(_task(config), config.training, world)

    return train_command(
        config.out,
        config.training,
        lambda world: prepare_corpora(config.corpora, config.flat(), config.training, steps, world),
    )


def open_model(folder: Path) -> nn.Module:
    """Return the model of a finished run with its best weights, in evaluation mode."""
    run = Run.open(folder)
    config = stored_configuration(Config, run)
    model = _model(config)
    load_weights(model, run.checkpoint() / WEIGHTS)
    return model.eval()


def _task(config: Config) -> OwnTask:
    corpus, rows, held_out = config.corpora.split(config.objective.validation_texts)
    seed = config.training.seed
    reseed(seed, "weights")
    return OwnTask(_model(config), config.objective, seed, (corpus, rows), held_out)


def _model(config: Config) -> nn.Module:
    tokenizer = open_tokenizer(Run.open(config.out))
    return MODELS[config.arm](model_config(config.flat(), tokenizer.vocab_size))
