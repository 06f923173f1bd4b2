"""``univae train-text``: a UniVAE on one text per line."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor
from tqdm import tqdm

from experiments.cli import run
from experiments.distributed import join
from experiments.loop import fit
from experiments.measure import of_training
from experiments.presets import PRESETS
from experiments.report import write as write_report
from experiments.run import Run, or_nothing
from experiments.settings import Settings
from experiments.task import reseed
from experiments.text_run import BUILT_IN, TextRun, model_config, texts_of
from experiments.text_samples import write_samples
from experiments.text_task import Objective, TextTask
from univae.checkpoint import read_json, write_json, write_text_atomic
from univae.corpus import Corpus, split
from univae.errors import InputError
from univae.rules import Rule, within
from univae.text import VOCABULARY, Tokenizer, require_vocabulary, tokenizer_from_json, train_tokenizer
from univae.vae import UniVAE, UniVAEConfig

__all__ = ["PRESETS", "Config", "held_out_texts", "main", "train", "write_held_out"]


@dataclass(frozen=True, kw_only=True)
class Config(Settings, Objective, UniVAEConfig):
    """Trains a UniVAE on a UTF-8 file of one text per line, and writes a run folder with a report."""

    text: str  # a file, or python-docs: the sentences of Python's own documentation
    out: Path  # the run folder
    validation: str = ""  # a file of held-out texts; empty: a share of --text
    held_out: float = 0.05  # that share
    tokenizer: Literal["bpe", "words", "chars", "bytes"] = "bpe"
    vocab_size: int = 4096  # at most so many token ids
    command: Literal["train-text"] = "train-text"  # what made the run folder; leave it

    RULES: ClassVar[Mapping[str, Rule]] = {
        "held_out": within("(0, 1)", "a share of the texts"),
        "vocab_size": VOCABULARY,
    }

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        UniVAEConfig.__post_init__(self)
        require_vocabulary(self.tokenizer, self.vocab_size)
        if self.batch_tokens < self.max_length:
            raise InputError(
                f"batch_tokens must hold one text of max_length={self.max_length}; got batch_tokens={self.batch_tokens}"
            )


def main(config: Config) -> dict[str, Any]:
    """Trains, then writes samples and the report; the JSON names likelihood, bound, KL per layer, and active units."""
    result = train(config)
    if int(os.environ.get("RANK", "0")) == 0:
        write_samples(TextRun(config.out, config.device), held_out_texts(config))
        result["report"] = str(write_report(config.out))
    return of_training(result)


def train(config: Config) -> dict[str, Any]:
    """Tokenises once beside the run, then fits; what :func:`experiments.loop.fit` returns."""
    with join(config.device) as world:
        folder = Run.create(config.out, dataclasses.asdict(config))
        with or_nothing(folder):
            if world.first:
                _tokenise(config)
            world.wait()  # the others read what the first has written
            tokenizer = tokenizer_from_json(read_json(config.out / "tokenizer.json"))
            corpus = Corpus.open(config.out / "corpus")
            train_indices, held_out = _split(config, corpus)
            reseed(config.seed, "weights")
            model = UniVAE(model_config(dataclasses.asdict(config), tokenizer.vocab_size))
            task = TextTask(model, config, config.seed, (corpus, train_indices), held_out)
            return fit(task, config, folder)


def held_out_texts(config: Config) -> list[str]:
    """The texts that validations look at, as text."""
    tokenizer = tokenizer_from_json(read_json(config.out / "tokenizer.json"))
    held_out = _split(config, Corpus.open(config.out / "corpus"))[1]
    return [tokenizer.decode(row) for row in held_out]


def write_held_out(config: Config, path: Path) -> tuple[list[str], str]:
    """Writes the held-out texts, one a line; returns them, and all others of ``config.text`` as one text."""
    held_out = held_out_texts(config)
    write_text_atomic(path, "".join(text + "\n" for text in held_out))
    known = set(held_out)
    return held_out, "".join(text + "\n" for text in texts_of(config.text) if text not in known)


def _tokenise(config: Config) -> None:
    """Writes ``tokenizer.json`` and the memory-mapped corpora; with --resume, checks that they are of these texts."""
    tokenizer = _tokenizer(config)
    _build(config.text, tokenizer, config.out / "corpus", config.max_length)
    if config.validation:
        _build(config.validation, tokenizer, config.out / "validation", config.max_length)


def _tokenizer(config: Config) -> Tokenizer:
    path = config.out / "tokenizer.json"
    if path.exists():
        return tokenizer_from_json(read_json(path))
    tokenizer = train_tokenizer(config.tokenizer, texts_of(config.text), config.vocab_size)
    write_json(path, tokenizer.to_json())
    return tokenizer


def _build(data: str, tokenizer: Tokenizer, folder: Path, max_length: int) -> Corpus:
    size = None if data == BUILT_IN or not Path(data).is_file() else Path(data).stat().st_size
    with tqdm(total=size, unit="B", unit_scale=True, desc="tokenising", disable=None, leave=False) as bar:
        return Corpus.build(texts_of(data), tokenizer, folder, max_length=max_length, progress=bar.update)


def _split(config: Config, corpus: Corpus) -> tuple[np.ndarray, Tensor]:
    """Indices to train on, and the padded held-out texts of a validation."""
    if config.validation:
        other = Corpus.open(config.out / "validation")
        if len(other) < 2:
            raise InputError(f"2 held-out texts are needed; --validation {config.validation} has 1; give more")
        order = np.random.default_rng(config.seed).permutation(len(other))[: config.validation_texts]
        return np.arange(len(corpus)), other.gather(order)
    train_indices, held_out = split(len(corpus), config.held_out, config.seed)
    if len(held_out) < 2:
        share = f"{len(corpus)} texts with --held-out {config.held_out:g} give {len(held_out)}"
        raise InputError(f"2 held-out texts are needed; {share}; give more texts, or a larger share")
    order = np.random.default_rng(config.seed).permutation(held_out)[: config.validation_texts]
    return train_indices, corpus.gather(order)


if __name__ == "__main__":
    run(Config, main)
