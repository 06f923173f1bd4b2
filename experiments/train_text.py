"""``univae train-text``: a UniVAE on texts, one a line or a cell."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar, Literal

from experiments.calibration.options import Calibration
from experiments.calibration.phase import calibration_phase
from experiments.cli.commands import run
from experiments.data.notes import print_notes
from experiments.data.records import has_typed_paths
from experiments.data.texts import texts_of
from experiments.evaluation.latent_model import of_training
from experiments.evaluation.open_run import open_run
from experiments.reports.page import write as write_report
from experiments.text.corpora import Corpora
from experiments.text.data_options import TextData
from experiments.text.presets import PRESETS
from experiments.text.samples import write_samples
from experiments.text.task import TextObjective, TextTask
from experiments.training.command import Training, prepare_corpora
from experiments.training.command import train as train_command
from experiments.training.configuration import Configuration, Inherited, stored_configuration
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.origin import inherit
from experiments.training.published import TextOrigin, adopt
from experiments.training.run_folder import Run
from experiments.training.run_tokenizer import open_tokenizer
from experiments.training.settings import Settings
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, write_text_atomic
from univae.errors import InputError
from univae.rules import Rule
from univae.text.tokenizers import VOCABULARY, require_vocabulary
from univae.vae.kl_weight import weight_notes
from univae.vae.model import UniVAE, UniVAEConfig
from univae.vae.trained import TrainedText, model_config

__all__ = ["PRESETS", "Config", "held_out_texts", "main", "prepare", "train", "write_held_out"]

SHAPE = tuple(field.name for field in fields(UniVAEConfig))
# Options of the model that training from another run's weights may change.
REPLACEABLE = ("max_length", "dropout", "attention_dropout", "word_dropout")

SHOWN = 256  # held-out texts of samples, reports and the demo


@dataclass(frozen=True, kw_only=True)
class ModelOptions(UniVAEConfig):
    """The shape of the model."""

    vocab_size: int = 4096  # most token ids that the tokenizer learns; more: shorter texts

    RULES: ClassVar[Mapping[str, Rule]] = {"vocab_size": VOCABULARY}


@dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Trains a UniVAE on texts, one a line or a cell; writes a run folder with a report."""

    out: Path  # run folder to write; a new or empty folder
    data: TextData
    model: ModelOptions = field(default_factory=ModelOptions)
    objective: TextObjective = field(default_factory=TextObjective)
    training: Settings = field(default_factory=Settings)
    calibration: Calibration = field(default_factory=Calibration)
    origin: TextOrigin = field(default_factory=TextOrigin)
    # kind of the run in config.json; leave it unchanged
    command: Literal["train-text"] = "train-text"

    INHERITED: ClassVar[Inherited] = Inherited(
        fixed=("tokenizer", *(name for name in SHAPE if name not in REPLACEABLE)),
        defaults=REPLACEABLE,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_vocabulary(self.data.tokenizer, self.model.vocab_size)
        if self.objective.batch_tokens < self.model.max_length:
            raise InputError(
                f"batch_tokens must hold one text of max_length={self.model.max_length}; "
                f"got batch_tokens={self.objective.batch_tokens}"
            )

    @property
    def corpora(self) -> Corpora:
        """The token ids of the texts."""
        shape = self.model
        seed = self.training.seed
        origin = self.origin
        return Corpora(self.data, self.out, seed, shape.max_length, shape.vocab_size, origin)


def main(config: Config) -> JsonObject:
    """Train, then write samples and the report.

    Returns:
        likelihood, bound, KL per latent layer and active units of the last validation.
    """

    def report() -> Path:
        trained = open_run(TrainedText, config.out, config.training.device)
        write_samples(trained, held_out_texts(config))
        return write_report(config.out)

    config = _complete(config)
    result = train_command(
        config.out, config.training, lambda world: prepare(config, world), report
    )
    return of_training(result)


def train(config: Config) -> JsonObject:
    """Train without samples and report.

    Returns:
        the result of :func:`experiments.training.loop.fit`.
    """
    config = _complete(config)
    return train_command(config.out, config.training, lambda world: prepare(config, world))


def held_out_texts(config: Config) -> list[str]:
    """Return the texts of validations, and after them other held-out ones, up to 256 in all."""
    return config.corpora.held_out_texts(max(SHOWN, config.objective.validation_texts))


def write_held_out(config: Config, path: Path) -> tuple[list[str], str]:
    """Write the held-out texts, one a line.

    Returns:
        the held-out texts, and all others of ``--text`` as one text.
    """
    held_out = held_out_texts(config)
    write_text_atomic(path, "".join(text + "\n" for text in held_out))
    excluded = set(held_out)
    texts = texts_of(config.data.text, column=config.data.column, refuse_long=False)
    others = [text for text in texts if text not in excluded]
    return held_out, "".join(text + "\n" for text in others)


def _complete(config: Config) -> Config:
    """Return the configuration with absolute paths, and with the model of the initial weights.

    A resumed run of version 0.1.0 keeps its paths, because they are compared with its
    ``config.json``.
    """
    if not config.training.resume or not has_typed_paths(config.out):
        config = replace(config, data=config.data.absolute())
    return adopt(inherit(config, config.INHERITED))


def prepare(config: Config, world: World) -> Training:
    settings = config.calibration.training(config.training)

    notes = weight_notes(config.objective.kl_weight)
    print_notes(notes)

    def steps(world: World) -> GradientSteps:
        task = _task(config)
        notes.extend(config.origin.load(task.module, config.out, resumed=settings.resume))
        return GradientSteps(task, settings, world)

    prepared = prepare_corpora(config.corpora, config.flat(), settings, steps, world)
    phase = calibration_phase(prepared.run, config.calibration, config.training)
    notes[:0] = prepared.notes
    return replace(prepared, after_training=phase, notes=notes)


def stored_task(path: Path, data: str = "") -> tuple[TextTask, Settings]:
    """Return the task that a run was trained on, with a new model, and its settings.

    ``data`` are its training texts where they have moved and the run holds no token ids.

    Raises:
        InputError: the run lacks its token ids, and these texts are not those of its training.
    """
    config = stored_configuration(Config, Run.open(path))
    if data and config.corpora.is_tokenised:
        raise InputError(
            f"{path} holds the token ids of its training; leave out --data; got --data {data}"
        )
    if data:
        config = config.change(text=data)
    config.corpora.tokenise_missing()
    return _task(config), config.training


def _task(config: Config) -> TextTask:
    """Return the training task of a run whose texts are tokenised, with a new model."""
    tokenizer = open_tokenizer(Run.open(config.out))
    corpus, rows, held_out = config.corpora.split(config.objective.validation_texts)
    reseed(config.training.seed, "weights")
    model = UniVAE(model_config(config.flat(), tokenizer.vocab_size))
    seed = config.training.seed
    return TextTask(model, config.objective, seed, (corpus, rows), held_out, tokenizer.decode)


if __name__ == "__main__":
    run(Config, main)
