"""The texts of a text model's training: options, token ids in the run folder, and what was left out.

Texts are tokenised once, into ``corpus/`` and ``validation/`` beside the run. ``data.json`` holds
their fingerprints, so that a resumed run refuses texts that have changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from torch import Tensor
from tqdm import tqdm
from typing_extensions import Doc

from experiments.data.notes import print_notes
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
from experiments.training.run_folder import Run, or_nothing
from experiments.training.run_tokenizer import open_tokenizer, tokenizer_record
from univae.checkpoint import JsonObject, write_json
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, check, within
from univae.text.corpus import Corpus, Removed, fingerprint_texts, split
from univae.text.tokenizers import TOKENIZERS, Tokenizer, TokenizerName, train_tokenizer

__all__ = ["Corpora", "TextData"]

FEWEST = 2  # held-out texts: a validation measures variances and information between texts


@dataclass(frozen=True, kw_only=True)
class TextData:
    """The texts to train on and to hold out."""

    text: str  # a file, or python-docs: the sentences of Python's own documentation
    validation: str = ""  # a file of held-out texts; empty: a share of --text
    held_out: float = 0.05  # share of --text that is held out, without --validation
    tokenizer: Annotated[TokenizerName, Doc(choices_help("what a token is", TOKENIZERS))] = "bpe"

    RULES: ClassVar[Mapping[str, Rule]] = {"held_out": within("(0, 1)", "a share of the texts")}

    def __post_init__(self) -> None:
        check(self)

    def absolute(self) -> "TextData":
        """Return the same with sources that mean the same files from every folder."""
        text = resolved(self.text, (BUILT_IN,))
        validation = resolved(self.validation, (BUILT_IN,))
        return replace(self, text=text, validation=validation)


class Source(NamedTuple):
    """An option that names texts, and where their token ids are kept."""

    option: str  # without the dashes
    texts: str
    folder: Path


@dataclass(frozen=True)
class Corpora:
    """The token ids of a run's texts.

    Args:
        data: the options.
        out: the run folder.
        seed: draws which texts are held out.
        max_length: tokens of a text, its end token included; longer texts are left out.
        vocab_size: at most so many token ids are learned.
    """

    data: TextData
    out: Path
    seed: int
    max_length: int
    vocab_size: int

    def prepare(self, options: JsonObject) -> Run:
        """Start or continue the run and write what training reads; ``options`` are its config.json.

        Raises:
            InputError: texts cannot be read or are too few, or a resumed run was started with
                others. A refusal leaves the folder as it was.
        """
        for source in self._sources():
            if source.texts != BUILT_IN:
                require_rereadable(f"--{source.option}", Path(source.texts))
        resumed = bool(options["resume"])
        if resumed:
            self._refuse_changes(options)
        run = Run.create(self.out, options)
        with or_nothing(run):
            self._tokenise(run, resumed)
        return run

    def split(self, validation_texts: int) -> tuple[Corpus, np.ndarray, Tensor]:
        """Return the corpus, the rows of it to train on, and padded held-out texts (N, T).

        At most ``validation_texts`` are held out for the validations.
        """
        corpus = Corpus.open(self.out / "corpus")
        if self.data.validation:
            other = Corpus.open(self.out / "validation")
            rows = np.arange(len(corpus))
            held_out_rows = np.arange(len(other))
        else:
            other = corpus
            rows, held_out_rows = self._split_rows(len(corpus))
        order = np.random.default_rng(self.seed).permutation(held_out_rows)[:validation_texts]
        return corpus, rows, other.gather(order)

    def held_out_texts(self, validation_texts: int) -> list[str]:
        """Return the texts that validations look at, as text."""
        tokenizer = open_tokenizer(Run.open(self.out))
        held_out = self.split(validation_texts)[2]
        return [tokenizer.decode(ids) for ids in held_out]

    def counts(self, run: Run) -> JsonObject:
        """Return how many texts were left out, and the shares of unknown words, for the result."""
        record = run.data_record()
        counts: JsonObject = {}
        for option, name in COUNTS.items():
            if option in record:
                counts[name] = record[option].get("texts_left_out")
        for entry in record.values():
            counts |= unknown_shares(entry)
        return counts

    def _sources(self) -> list[Source]:
        sources = [Source("text", self.data.text, self.out / "corpus")]
        if self.data.validation:
            sources.append(Source("validation", self.data.validation, self.out / "validation"))
        return sources

    def _refuse_changes(self, options: JsonObject) -> None:
        """Raise InputError where texts or tokenizer are not those that the run was started with."""
        before = Run.open(self.out)
        if before.config.get("command") != options["command"]:
            return  # Run.create names the difference
        tokenizer = open_tokenizer(before) if (self.out / "tokenizer.json").exists() else None
        if not before.data_record():
            self._refuse_changed_corpora(tokenizer)
            return

        record: dict[str, JsonObject] = {}
        for source in self._sources():
            count, fingerprint = fingerprint_texts(texts_of(source.texts))
            entry = {"source": source.texts, "fingerprint": fingerprint, "count": count}
            record[source.option] = entry
        if tokenizer is not None:
            record["tokenizer"] = tokenizer_record(tokenizer)
        Run(self.out, options).record_data(record)

    def _refuse_changed_corpora(self, tokenizer: Tokenizer | None) -> None:
        """Refuse changed texts of a run of version 0.1.0, whose corpora hold the fingerprints."""
        if tokenizer is None:
            return
        for source in self._sources():
            if (source.folder / "corpus.json").exists():
                self._build(source, tokenizer, Removed())

    def _tokenise(self, run: Run, resumed: bool) -> None:
        """Write ``tokenizer.json``, the corpora and ``data.json``, where they are missing."""
        tokenizer = self._tokenizer(run)
        record = {"tokenizer": tokenizer_record(tokenizer)}
        corpora: dict[str, Corpus] = {}
        for source in self._sources():
            removed = Removed()
            if resumed and (source.folder / "corpus.json").exists():  # its texts were compared
                corpus = Corpus.open(source.folder)
            else:
                corpus = self._build(source, tokenizer, removed)
            corpora[source.option] = corpus
            record[source.option] = _record_of(source, corpus, removed)
        self._require_enough(corpora)

        before = run.data_record()
        if before:  # a resumed run: notes on its texts were made when they were read
            print_notes(notes_of(before))
            return
        if not tokenizer.lossless:
            self._count_unknown(tokenizer, corpora, record)
        run.record_data(record)
        print_notes(notes_of(record))

    def _tokenizer(self, run: Run) -> Tokenizer:
        path = self.out / "tokenizer.json"
        if path.exists():
            return open_tokenizer(run)
        tokenizer = train_tokenizer(self.data.tokenizer, texts_of(self.data.text), self.vocab_size)
        write_json(path, tokenizer.to_json())
        return tokenizer

    def _build(self, source: Source, tokenizer: Tokenizer, removed: Removed) -> Corpus:
        file = Path(source.texts)
        size = file.stat().st_size if source.texts != BUILT_IN and file.is_file() else None
        with tqdm(
            total=size, unit="B", unit_scale=True, desc="tokenising", disable=None, leave=False
        ) as bar:
            texts = texts_of(source.texts, removed=removed)
            return Corpus.build(
                texts, tokenizer, source.folder, max_length=self.max_length, progress=bar.update
            )

    def _require_enough(self, corpora: Mapping[str, Corpus]) -> None:
        """Raise InputError where too few texts are held out for a validation."""
        rule = f"{FEWEST} held-out texts are needed"
        if self.data.validation:
            held_out = len(corpora["validation"])
            if held_out < FEWEST:
                file = self.data.validation
                raise InputError(f"{rule}; --validation {file} gives {held_out}; give more texts")
            return
        count = len(corpora["text"])
        held_out = len(self._split_rows(count)[1]) if count > 1 else 0
        if held_out < FEWEST:
            texts = f"{count} text{'' if count == 1 else 's'}"
            verb = "gives" if count == 1 else "give"
            share = f"--held-out {self.data.held_out:g}"
            way_out = "raise it, or give --validation"
            raise InputError(f"{rule}; {texts} with {share} {verb} {held_out}; {way_out}")

    def _count_unknown(
        self,
        tokenizer: Tokenizer,
        corpora: Mapping[str, Corpus],
        record: dict[str, JsonObject],
    ) -> None:
        """Add the shares of unknown words to ``record``, with notes where they are above 1%."""
        totals = corpora["text"].totals
        training = (totals["unknown_words"], totals["words"])
        if self.data.validation:
            held_out_option = "validation"
            other = corpora["validation"].totals
            held_out = (other["unknown_words"], other["words"])
        else:
            held_out_option = "text"
            held_out = self._unknown_held_out(tokenizer, corpora["text"])
            training = (training[0] - held_out[0], training[1] - held_out[1])
        _add_unknown(record["text"], "training", *training)
        _add_unknown(record[held_out_option], "held_out", *held_out)

    def _unknown_held_out(self, tokenizer: Tokenizer, corpus: Corpus) -> tuple[int, int]:
        """Return the number of unknown words, and of all words, in the held-out share of --text."""
        held_out = set(self._split_rows(len(corpus))[1].tolist())
        longest = self.max_length - 1  # the end token takes one position
        texts = texts_of(self.data.text)
        in_corpus = (text for text in texts if len(tokenizer.encode(text)) <= longest)
        unknown = 0
        words = 0
        for row, text in enumerate(in_corpus):
            if row in held_out:
                unknown += tokenizer.unknown(text)
                words += len(text.split())
        return unknown, words

    def _split_rows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of ``count`` texts to train on, and those held out."""
        return split(count, self.data.held_out, self.seed)


# Option -> the name of the number of its texts that were left out.
COUNTS = {"text": "texts_left_out", "validation": "validation_texts_left_out"}


def _record_of(source: Source, corpus: Corpus, removed: Removed) -> JsonObject:
    """Return what ``data.json`` holds of a source of texts."""
    option = f"--{source.option}"
    dropped = corpus.totals["dropped"]
    count = len(corpus) + dropped
    notes = left_out_notes(option, dropped, count, corpus.recipe["max_length"])
    return {
        "source": source.texts,
        "fingerprint": corpus.recipe["texts"],
        "count": count,
        "texts_left_out": dropped,
        "notes": [*removed.notes(option), *notes],
    }


def _add_unknown(entry: JsonObject, texts: str, unknown: int, words: int) -> None:
    """Add the share of unknown words of the training or held-out texts to an entry of data.json."""
    entry[f"unknown_words_{texts}"] = share_of(unknown, words)
    label = f"{texts.replace('_', '-')} texts"
    entry["notes"] += unknown_notes(label, unknown, words, above=MUCH, meaning=LIKELIHOODS)
