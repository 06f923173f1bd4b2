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

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.sources import resolved
from experiments.data.text_notes import (
    LIKELIHOODS,
    MUCH,
    left_out_notes,
    notes_of,
    share_of,
    unknown_notes,
    unknown_shares,
)
from experiments.data.texts import BUILT_IN, require_rereadable, texts_of
from experiments.evaluation.latent_model import of_training
from experiments.evaluation.open_run import open_run
from experiments.reports.page import write as write_report
from experiments.text.presets import PRESETS
from experiments.text.samples import write_samples
from experiments.text.task import Objective, TextTask
from experiments.training.distributed import join
from experiments.training.loop import fit
from experiments.training.run_folder import Run, or_nothing
from experiments.training.run_tokenizer import open_tokenizer, tokenizer_record
from experiments.training.settings import Settings
from experiments.training.task import reseed
from univae.checkpoint import write_json, write_text_atomic
from univae.errors import InputError
from univae.rules import Rule, within
from univae.text.corpus import Corpus, Removed, fingerprint_texts, split
from univae.text.tokenizers import VOCABULARY, Tokenizer, require_vocabulary, train_tokenizer
from univae.vae.model import UniVAE, UniVAEConfig
from univae.vae.trained import TrainedText, model_config

__all__ = ["PRESETS", "Config", "held_out_texts", "main", "train", "write_held_out"]

FEWEST = 2  # held-out texts: a validation measures variances and information between texts


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
    """Train, then writes samples and the report.

    The JSON names likelihood, bound, KL per layer, and active units.
    """
    result = train(config)
    if int(os.environ.get("RANK", "0")) == 0:
        write_samples(open_run(TrainedText, config.out, config.device), held_out_texts(config))
        result["report"] = str(write_report(config.out))
    return of_training(result)


def train(config: Config) -> dict[str, Any]:
    """Tokenise once beside the run, then fits.

    What :func:`experiments.training.loop.fit` returns.
    """
    config = _absolute(config)
    with join(config.device) as world:
        folder: Run | None = None
        if world.first:  # the others find everything in place
            folder = _prepared(config)
        world.wait()
        folder = folder or Run.create(config.out, dataclasses.asdict(config))
        with or_nothing(folder):
            tokenizer = open_tokenizer(folder)
            corpus = Corpus.open(config.out / "corpus")
            train_indices, held_out = _split(config, corpus)
            reseed(config.seed, "weights")
            model = UniVAE(model_config(dataclasses.asdict(config), tokenizer.vocab_size))
            task = TextTask(model, config, config.seed, (corpus, train_indices), held_out)
            result = _with_account(fit(task, config, folder), folder)
        folder.finish(result)
        return result


def held_out_texts(config: Config) -> list[str]:
    """The texts that validations look at, as text."""
    tokenizer = open_tokenizer(Run.open(config.out))
    held_out = _split(config, Corpus.open(config.out / "corpus"))[1]
    return [tokenizer.decode(row) for row in held_out]


def write_held_out(config: Config, path: Path) -> tuple[list[str], str]:
    """Write the held-out texts, one a line.

    Returns them, and all others of ``config.text`` as one text.
    """
    held_out = held_out_texts(config)
    write_text_atomic(path, "".join(text + "\n" for text in held_out))
    known = set(held_out)
    return held_out, "".join(text + "\n" for text in texts_of(config.text) if text not in known)


def _absolute(config: Config) -> Config:
    """Return the configuration with sources that mean the same files from every folder.

    A resumed run without ``data.json`` (version 0.1.0) keeps the paths that its ``config.json``
    is compared by.
    """
    if config.resume and not (config.out / "data.json").exists():
        return config
    text = resolved(config.text, (BUILT_IN,))
    validation = resolved(config.validation, (BUILT_IN,))
    return dataclasses.replace(config, text=text, validation=validation)


def _sources(config: Config) -> dict[str, tuple[str, Path]]:
    """Return the sources of texts by their option, each with the folder of its corpus."""
    sources = {"text": (config.text, config.out / "corpus")}
    if config.validation:
        sources["validation"] = (config.validation, config.out / "validation")
    return sources


def _prepared(config: Config) -> Run:
    """Start or continue the run and write what training reads.

    A refusal leaves the folder as it was.
    """
    for option, (source, _) in _sources(config).items():
        if source != BUILT_IN:
            require_rereadable(f"--{option}", Path(source))
    if config.resume:
        _refuse_changes(config)
    run = Run.create(config.out, dataclasses.asdict(config))
    with or_nothing(run):
        _tokenise(config, run)
    return run


def _refuse_changes(config: Config) -> None:
    """Raise InputError where texts or tokenizer are not those that the run was started with."""
    before = Run.open(config.out)
    if before.config.get("command") != config.command:
        return  # Run.create names the difference
    record = before.data_record()
    tokenizer = open_tokenizer(before) if (config.out / "tokenizer.json").exists() else None
    sources = _sources(config)
    if not record:  # of version 0.1.0: its corpora know their texts
        for source, folder in sources.values():
            if tokenizer is not None and (folder / "corpus.json").exists():
                _build(source, tokenizer, folder, config.max_length, Removed())
        return
    current: dict[str, dict[str, Any]] = {}
    for option, (source, _) in sources.items():
        count, fingerprint = fingerprint_texts(texts_of(source))
        current[option] = {"source": source, "fingerprint": fingerprint, "count": count}
    if tokenizer is not None:
        current["tokenizer"] = tokenizer_record(tokenizer)
    Run(config.out, dataclasses.asdict(config)).record_data(current)


def _tokenise(config: Config, run: Run) -> None:
    """Write ``tokenizer.json``, the corpora and ``data.json``, where they are missing."""
    tokenizer = _tokenizer(config, run)
    record = {"tokenizer": tokenizer_record(tokenizer)}
    corpora: dict[str, Corpus] = {}
    for option, (source, folder) in _sources(config).items():
        removed = Removed()
        if config.resume and (folder / "corpus.json").exists():  # its texts have been compared
            corpora[option] = Corpus.open(folder)
        else:
            corpora[option] = _build(source, tokenizer, folder, config.max_length, removed)
        record[option] = _record_of(option, source, corpora[option], removed)
    _require_enough(config, corpora)
    before = run.data_record()
    if before:  # a resumed run: notes of its texts were made when they were read
        print_notes(notes_of(before))
        return
    _count_unknown(config, tokenizer, corpora, record)
    run.record_data(record)
    print_notes(notes_of(record))


def _tokenizer(config: Config, run: Run) -> Tokenizer:
    path = config.out / "tokenizer.json"
    if path.exists():
        return open_tokenizer(run)
    tokenizer = train_tokenizer(config.tokenizer, texts_of(config.text), config.vocab_size)
    write_json(path, tokenizer.to_json())
    return tokenizer


def _build(
    source: str,
    tokenizer: Tokenizer,
    folder: Path,
    max_length: int,
    removed: Removed,
) -> Corpus:
    size = None if source == BUILT_IN or not Path(source).is_file() else Path(source).stat().st_size
    with tqdm(
        total=size, unit="B", unit_scale=True, desc="tokenising", disable=None, leave=False
    ) as bar:
        texts = texts_of(source, removed=removed)
        return Corpus.build(texts, tokenizer, folder, max_length=max_length, progress=bar.update)


def _record_of(option: str, source: str, corpus: Corpus, removed: Removed) -> dict[str, Any]:
    """Return what ``data.json`` holds of a source of texts."""
    dropped = corpus.totals["dropped"]
    count = len(corpus) + dropped
    notes = left_out_notes(f"--{option}", dropped, count, corpus.recipe["max_length"])
    return {
        "source": source,
        "fingerprint": corpus.recipe["texts"],
        "count": count,
        "texts_left_out": dropped,
        "notes": [*removed.notes(f"--{option}"), *notes],
    }


def _require_enough(config: Config, corpora: dict[str, Corpus]) -> None:
    """Raise InputError where too few texts are held out for a validation."""
    rule = f"{FEWEST} held-out texts are needed"
    if config.validation:
        held_out = len(corpora["validation"])
        if held_out < FEWEST:
            given = f"--validation {config.validation} gives {held_out}"
            raise InputError(f"{rule}; {given}; give more texts")
        return
    count = len(corpora["text"])
    held_out = len(_held_out_rows(config, count)[1]) if count > 1 else 0
    if held_out < FEWEST:
        texts = f"{count} text{'' if count == 1 else 's'} with --held-out {config.held_out:g}"
        verb = "gives" if count == 1 else "give"
        way_out = "raise it, or give --validation"
        raise InputError(f"{rule}; {texts} {verb} {held_out}; {way_out}")


def _count_unknown(
    config: Config,
    tokenizer: Tokenizer,
    corpora: dict[str, Corpus],
    record: dict[str, dict[str, Any]],
) -> None:
    """Add the shares of unknown words to ``record``, with notes where they are above 1%."""
    if tokenizer.kind != "words":  # the others write every text
        return
    totals = corpora["text"].totals
    unknown = {"training": (totals["unknown_words"], totals["words"])}
    if config.validation:
        other = corpora["validation"].totals
        unknown["held_out"] = (other["unknown_words"], other["words"])
    else:
        unknown["held_out"] = _unknown_held_out(config, tokenizer, corpora["text"])
        unknown["training"] = (
            totals["unknown_words"] - unknown["held_out"][0],
            totals["words"] - unknown["held_out"][1],
        )
    for texts, counts in unknown.items():
        role = "validation" if texts == "held_out" and config.validation else "text"
        record[role][f"unknown_words_{texts}"] = share_of(*counts)
        label = f"{texts.replace('_', '-')} texts"
        record[role]["notes"] += unknown_notes(label, *counts, above=MUCH, meaning=LIKELIHOODS)


def _unknown_held_out(config: Config, tokenizer: Tokenizer, corpus: Corpus) -> tuple[int, int]:
    """Return the number of unknown words, and of all words, in the held-out share of --text."""
    held_out = set(_held_out_rows(config, len(corpus))[1].tolist())
    longest = config.max_length - 1  # the end token takes one place
    kept = (text for text in texts_of(config.text) if len(tokenizer.encode(text)) <= longest)
    unknown = 0
    words = 0
    for row, text in enumerate(kept):
        if row in held_out:
            unknown += tokenizer.unknown(text)
            words += len(text.split())
    return unknown, words


def _with_account(result: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return the result with what ``data.json`` says was left out, or is unknown."""
    record = run.data_record()
    counts: dict[str, Any] = {}
    for option, name in (("text", "texts_left_out"), ("validation", "validation_texts_left_out")):
        if option in record:
            counts[name] = record[option].get("texts_left_out")
    for entry in record.values():
        counts |= unknown_shares(entry)
    return with_notes({**counts, **result}, [*notes_of(record), *result.get("notes", [])])


def _held_out_rows(config: Config, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of ``count`` texts to train on, and those held out."""
    return split(count, config.held_out, config.seed)


def _split(config: Config, corpus: Corpus) -> tuple[np.ndarray, Tensor]:
    """Indices to train on, and the padded held-out texts of a validation."""
    if config.validation:
        other = Corpus.open(config.out / "validation")
        order = np.random.default_rng(config.seed).permutation(len(other))[
            : config.validation_texts
        ]
        return np.arange(len(corpus)), other.gather(order)
    train_indices, held_out = _held_out_rows(config, len(corpus))
    order = np.random.default_rng(config.seed).permutation(held_out)[: config.validation_texts]
    return train_indices, corpus.gather(order)


if __name__ == "__main__":
    run(Config, main)
