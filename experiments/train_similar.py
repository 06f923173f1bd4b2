"""``univae train-similar``: a RoFormer-Sim on groups of similar texts, or on labelled pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from experiments.cli.commands import run
from experiments.data.records import has_typed_paths
from experiments.evaluation.latent_model import without_selection
from experiments.evaluation.open_run import open_run
from experiments.reports.page import write as write_report
from experiments.sentences.batch import SentenceObjective
from experiments.sentences.data_options import PairData
from experiments.sentences.label_task import LabelTask
from experiments.sentences.pair_corpora import PairCorpora
from experiments.sentences.pair_task import pair_steps
from experiments.sentences.presets import PRESETS
from experiments.sentences.samples import write_samples
from experiments.sentences.stages import STAGES, Stage
from experiments.sentences.targets import TARGETS
from experiments.training.command import Training, prepare_corpora
from experiments.training.command import train as train_command
from experiments.training.configuration import Configuration, Inherited
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.origin import inherit
from experiments.training.published import TextOrigin, adopt
from experiments.training.settings import Settings
from experiments.training.task import reseed
from univae.attention.variant import VARIANT
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule
from univae.sentence.model import RoFormerSim, RoFormerSimConfig
from univae.sentence.trained import TrainedSimilar, similar_config
from univae.text.noise import WordNoise
from univae.text.tokenizers import VOCABULARY, require_vocabulary

__all__ = ["PRESETS", "Config", "main", "prepare", "train"]

# Options of a run that are those of the run of --from, whose weights and tokens it uses.
SHAPE = ("width", "heads", "layers", "norm", "scale", "scale_base", "pooling", *sorted(VARIANT))
WORDS = ("lowercase", "tokenizer", "vocab_size")


@dataclass(frozen=True, kw_only=True)
class ModelOptions(RoFormerSimConfig):
    """The shape of the model."""

    vocab_size: int = 8192  # most token ids that the tokenizer learns; more: shorter texts

    RULES: ClassVar[Mapping[str, Rule]] = {"vocab_size": VOCABULARY}


@dataclass(frozen=True, kw_only=True)
class Config(Configuration):
    """Trains a RoFormer-Sim, and writes a run folder with a report.

    A line of --pairs is a pair or a group of similar texts, separated by tabs (.tsv), by commas
    (.csv), a JSON list or an object (.jsonl). With a label, a number or contradiction, neutral,
    entailment, it is a pair for --stage finetune, each of whose batches is from one file. Headers
    and published files are recognised; --columns names the columns otherwise.
    """

    out: Path  # run folder to write; a new or empty folder
    data: PairData
    model: ModelOptions = field(default_factory=ModelOptions)
    objective: SentenceObjective = field(default_factory=SentenceObjective)
    training: Settings = field(default_factory=Settings)
    origin: TextOrigin = field(default_factory=TextOrigin)
    # kind of the run in config.json; leave it unchanged
    command: Literal["train-similar"] = "train-similar"

    INHERITED: ClassVar[Inherited] = Inherited(
        fixed=(*SHAPE, *WORDS), defaults=("max_length", "dropout", "attention_dropout")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_vocabulary(self.data.tokenizer, self.model.vocab_size)
        o = self.objective
        self.stage.check(o.chunk_size, self.data.teacher)
        source = self.origin.from_run or self.origin.init_from
        if self.starts_from_teacher and source is not None:
            raise InputError(
                f"--token-start teacher: the table of tokens is that of {source}, whose weights "
                "the run starts from; leave one of both out"
            )

    @property
    def stage(self) -> Stage:
        """The row of ``--stage``."""
        return STAGES[self.objective.stage]

    @property
    def starts_from_teacher(self) -> bool:
        """Whether the table of tokens starts from the teacher's vectors."""
        return self.data.token_start == "teacher"

    @property
    def corpora(self) -> PairCorpora:
        """The token ids of the texts."""
        shape = self.model
        seed = self.training.seed
        has_width = TARGETS[self.objective.distil_target].has_width
        table_width = shape.embedding_width or shape.width
        return PairCorpora(
            self.data,
            self.stage,
            self.out,
            seed,
            shape.max_length,
            shape.vocab_size,
            self.training.device,
            self.origin,
            vector_width=shape.width if has_width else None,
            table_width=table_width if self.starts_from_teacher else None,
        )


def main(config: Config) -> JsonObject:
    """Train, then write examples and the report.

    Returns:
        the metrics of the last validation.
    """
    config = _complete(config)

    def report() -> Path:
        trained = open_run(TrainedSimilar, config.out, config.training.device)
        if config.objective.generation and not config.stage.reads_labels:
            write_samples(trained, config.corpora.shown_texts())
        return write_report(config.out)

    result = train_command(
        config.out, config.training, lambda world: prepare(config, world), report
    )
    return without_selection(result)


def train(config: Config) -> JsonObject:
    """Train without examples and report.

    Returns:
        the result of :func:`experiments.training.loop.fit`.
    """
    config = _complete(config)
    return train_command(config.out, config.training, lambda world: prepare(config, world))


def prepare(config: Config, world: World) -> Training:
    notes: list[str] = []

    def steps(world: World) -> GradientSteps:
        return _steps(config, world, notes)

    prepared = prepare_corpora(config.corpora, config.flat(), config.training, steps, world)
    notes += prepared.notes
    return replace(prepared, notes=notes)


def _steps(config: Config, world: World, notes: list[str]) -> GradientSteps:
    """Build the model and its training steps; add what is said of its initial weights."""
    text = config.corpora.text()
    examples = config.corpora.examples()
    seed = config.training.seed
    reseed(seed, "weights")
    model = RoFormerSim(similar_config(config.flat(), text.vocab_size))
    notes += config.origin.load(model, config.out, resumed=config.training.resume)
    config.corpora.start_tokens(model, resumed=config.training.resume)
    objective = config.objective
    if config.stage.reads_labels:
        return GradientSteps(LabelTask(model, objective, seed, examples), config.training, world)
    noise = WordNoise(text.tokenizer, model.mask, objective.noise())
    return pair_steps(model, objective, config.training, examples, noise, world)


def _complete(config: Config) -> Config:
    """Return the configuration with absolute paths, and with the model of the initial weights.

    A resumed run of version 0.1.0 keeps its paths, because they are compared with its
    ``config.json``.
    """
    if not config.training.resume or not has_typed_paths(config.out):
        config = replace(config, data=config.data.absolute())
    return adopt(inherit(config, config.INHERITED))


if __name__ == "__main__":
    run(Config, main)
