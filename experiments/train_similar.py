"""``univae train-similar``: a RoFormer-Sim on pairs or groups of similar texts, or on labelled pairs."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tyro

from experiments.cli import run
from experiments.distributed import join
from experiments.label_task import LabelTask
from experiments.loop import fit
from experiments.options import stored
from experiments.pairs import Groups, read_groups
from experiments.report import write as write_report
from experiments.run import Run, or_nothing
from experiments.settings import Settings
from experiments.similar_batch import Examples, Objective
from experiments.similar_presets import PRESETS
from experiments.similar_run import SimilarRun, similar_config
from experiments.similar_samples import write_samples
from experiments.similar_task import pair_task
from experiments.similar_text import SimilarText
from experiments.task import reseed
from experiments.teacher import teach
from univae.checkpoint import load_weights, read_json, write_json
from univae.corpus import Corpus
from univae.corruption import Noise, WordNoise
from univae.errors import InputError
from univae.rules import Rule, within
from univae.sentence import RoFormerSim, RoFormerSimConfig
from univae.text import VOCABULARY, Tokenizer, require_vocabulary, tokenizer_from_json, train_tokenizer

__all__ = ["PRESETS", "Config", "main", "train"]

SHOWN = 10  # held-out texts whose similar ones a report shows


@dataclass(frozen=True, kw_only=True)
class Config(Settings, Objective, RoFormerSimConfig):
    """Trains a RoFormer-Sim, and writes a run folder with a report.

    A line of --pairs is a pair or a group of similar texts, parted by tabs (.tsv) or a JSON list (.jsonl); with a label
    in the third place, a number or contradiction, neutral, entailment, it is a pair for --stage finetune, whose batches
    are each of one file.
    """

    pairs: tuple[Path, ...]  # .tsv or .jsonl files; labels are compared within a file
    out: Path  # the run folder
    validation: tuple[Path, ...] = ()  # files of labelled pairs; none: a share of --pairs
    held_out: float = 0.05  # that share
    from_run: Annotated[Path | None, tyro.conf.arg(name="from")] = None  # a run to start from: its weights and words
    teacher: Path | None = None  # of --stage distil: a run, or a .npz of texts and vectors
    tokenizer: Literal["bpe", "words", "chars", "bytes"] = "bpe"  # chars for Chinese
    vocab_size: int = 8192  # at most so many token ids
    lowercase: bool = False  # texts are read, and written, in lower case
    command: Literal["train-similar"] = "train-similar"  # what made the run folder; leave it

    RULES: ClassVar[Mapping[str, Rule]] = {
        "held_out": within("(0, 1)", "a share of the groups"),
        "vocab_size": VOCABULARY,
    }

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        Objective.__post_init__(self)
        RoFormerSimConfig.__post_init__(self)
        require_vocabulary(self.tokenizer, self.vocab_size)
        self.noise()
        if not self.pairs:
            raise InputError("--pairs needs at least one file of pairs or groups; got none")
        if self.stage == "finetune" and (self.chunk_size or self.gather):
            given = f"chunk_size={self.chunk_size}, gather={self.gather}"
            raise InputError(f"--chunk-size and --gather are of pretrain and distil; got {given}; leave them out")
        if (self.stage == "distil") != (self.teacher is not None):
            raise InputError(
                f"--stage distil needs a --teacher, and no other stage has one; got stage={self.stage}, "
                f"teacher={self.teacher}"
            )

    def noise(self) -> Noise:
        """The noise of sources."""
        return Noise(self.noise_rows, self.noise_mask, self.noise_keep, self.noise_replace)


# What a run that starts from another takes over from it: its weights fit nothing else.
INHERITED = (
    "width",
    "heads",
    "layers",
    "norm",
    "scale",
    "scale_base",
    "pooling",
    "lowercase",
    "tokenizer",
    "vocab_size",
)


def main(config: Config) -> dict[str, Any]:
    """Trains, then writes examples and the report; the JSON holds what the last validation measured."""
    result = train(config)
    if int(os.environ.get("RANK", "0")) == 0:
        opened = SimilarRun(config.out, config.device)
        if config.stage != "finetune" and config.generation:
            write_samples(opened, _shown(config))
        result["report"] = str(write_report(config.out))
    return {name: value for name, value in result.items() if name != "selection"}


def train(config: Config) -> dict[str, Any]:
    """Tokenises once beside the run, then fits; what :func:`experiments.loop.fit` returns."""
    config = _inherited(config)
    with join(config.device) as world:
        groups = _checked(config) if world.first else None
        folder = Run.create(config.out, dataclasses.asdict(config))
        with or_nothing(folder):
            if groups is not None:
                _prepare(config, groups)
            world.wait()  # the others read what the first has written
            text, examples = _text(config), _examples(config)
            reseed(config.seed, "weights")
            model = RoFormerSim(similar_config(dataclasses.asdict(config), text.vocab_size))
            if config.from_run is not None:
                load_weights(model, Run.open(config.from_run).checkpoint() / "model.safetensors")
            if config.stage == "finetune":
                return fit(LabelTask(model, config, config.seed, examples), config, folder)
            noise = WordNoise(text.tokenizer, model.mask, config.noise())
            return fit(pair_task(model, config, config.seed, examples, noise), config, folder)


def _inherited(config: Config) -> Config:
    """The configuration with the shape of the run it starts from; an option that contradicts that run is refused."""
    if config.from_run is None:
        return config
    run = Run.open(config.from_run)
    if run.config.get("command") != config.command:
        raise InputError(f"--from {config.from_run} is no sentence model; give the --out of train-similar")
    other = {name: getattr(stored(Config, run), name) for name in (*INHERITED, "max_length")}
    default = {field.name: field.default for field in dataclasses.fields(config)}
    for name in INHERITED:
        if getattr(config, name) not in (default[name], other[name]):
            raise InputError(
                f"{name}={getattr(config, name)}: --from {config.from_run} has {name}={other[name]}; leave it out"
            )
    names = (*INHERITED, *(("max_length",) if config.max_length == default["max_length"] else ()))
    return dataclasses.replace(config, **{name: other[name] for name in names})


def _checked(config: Config) -> Groups:
    """Reads what is given before anything is written, and refuses what the stage cannot use."""
    groups = read_groups(*config.pairs)
    given = ", ".join(map(str, config.pairs))
    if config.from_run is not None:
        Run.open(config.from_run).checkpoint()
    if config.stage == "finetune" and groups.scores is None:
        raise InputError(f"--stage finetune needs labelled pairs; {given} has none; give text, text, label")
    if config.stage != "finetune" and groups.scores is not None:
        raise InputError(
            f"{given} has labels, which --stage {config.stage} does not read; give the similar pairs alone, "
            "without a label, or --stage finetune"
        )
    if config.stage == "pretrain" and (np.diff(groups.offsets) < 2).any():
        raise InputError(f"{given}: a line holds one text; --stage pretrain needs two of a kind, distil does not")
    if config.validation and read_groups(*config.validation).scores is None:
        judges = " ".join(map(str, config.validation))
        raise InputError(f"--validation {judges} has no labels; give text, text, label")
    held_out = _split(config, groups)[1]
    if len(held_out) == 1:
        share = f"{len(groups)} groups with --held-out {config.held_out:g} give 1"
        raise InputError(f"2 held-out groups are needed; {share}; give more groups, or a larger share")
    return groups


def _split(config: Config, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Groups to train on and held out; none of labelled pairs where others judge them."""
    if config.stage == "finetune" and config.validation:
        return np.arange(len(groups)), np.arange(0)
    return groups.split(config.held_out, config.seed)


def _prepare(config: Config, groups: Groups) -> None:
    """Writes tokenizer, memory-mapped ids and the teacher's vectors; with --resume, checks that texts are the same."""
    path = config.out / "tokenizer.json"
    if not path.exists():
        write_json(path, _tokenizer(config, groups).to_json())
    text = _text(config)
    Corpus.build(groups.texts, text, config.out / "corpus", max_length=config.max_length)
    if config.validation:
        texts = read_groups(*config.validation).texts
        Corpus.build(texts, text, config.out / "validation", max_length=config.max_length)
    if config.teacher is not None:
        teach(config.teacher, groups.texts, config.out / "teacher.npy", config.device)


def _tokenizer(config: Config, groups: Groups) -> Tokenizer:
    if config.from_run is not None:
        return tokenizer_from_json(read_json(config.from_run / "tokenizer.json"))
    lead = " " if config.tokenizer == "bpe" else ""
    level = (" ".join(text.split()) for text in groups.texts)
    texts = (lead + (text.lower() if config.lowercase else text) for text in level)
    return train_tokenizer(config.tokenizer, texts, config.vocab_size)


def _text(config: Config) -> SimilarText:
    tokenizer = tokenizer_from_json(read_json(config.out / "tokenizer.json"))
    return SimilarText(tokenizer, config.max_length, config.lowercase)


def _examples(config: Config) -> Examples:
    groups = read_groups(*config.pairs)
    train_groups, held_out = _split(config, groups)
    teacher, validation = None, None
    if config.teacher is not None:
        teacher = np.load(config.out / "teacher.npy", mmap_mode="r", allow_pickle=False)
    if config.validation:
        validation = (read_groups(*config.validation), Corpus.open(config.out / "validation"))
    return Examples(groups, Corpus.open(config.out / "corpus"), train_groups, held_out, teacher, validation)


def _shown(config: Config) -> list[str]:
    """Held-out texts, one of each group."""
    groups = read_groups(*config.pairs)
    held_out = _split(config, groups)[1]
    return [groups.texts[i] for i in dict.fromkeys(groups.pairs[held_out, 0].tolist())][:SHOWN]


if __name__ == "__main__":
    run(Config, main)
