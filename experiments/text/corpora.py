"""The training and validation texts of a text model, as token ids in the run folder.

Texts are tokenised once, into ``corpus/`` and ``validation/`` of the run folder. ``data.json``
holds their fingerprints, so that a resumed run refuses texts that have changed.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor
from tqdm import tqdm

from experiments.data.notes import print_notes
from experiments.data.text_notes import left_out_notes, notes_of, unknown_shares
from experiments.data.texts import BUILT_IN, require_rereadable, texts_of
from experiments.text.data_options import TextData
from experiments.text.unknown_words import add_unknown_words, count_words_at, count_words_of
from experiments.training.comparison import require_same_data
from experiments.training.origin import origin_record
from experiments.training.run_folder import Run, or_nothing
from experiments.training.run_tokenizer import open_tokenizer, tokenizer_record
from univae.checkpoint import JsonObject, write_json
from univae.errors import InputError
from univae.text.corpus import Corpus, Removed, fingerprint_texts, split
from univae.text.tokenizers import Tokenizer, train_tokenizer

__all__ = ["Corpora"]

FEWEST = 2  # held-out texts: a validation measures variances and information between texts


class Source(NamedTuple):
    """An option that names texts, and the folder of their token ids."""

    option: str  # without dashes
    texts: str
    folder: Path


@dataclass(frozen=True)
class Corpora:
    """The token ids of a run's texts.

    Args:
        data: the options.
        out: the run folder.
        seed: of the choice of held-out texts.
        max_length: most tokens of a text, its end token included; longer texts are left out.
        vocab_size: most token ids that the tokenizer learns.
        origin: the run whose weights this one starts from, and whose tokenizer it has.
    """

    data: TextData
    out: Path
    seed: int
    max_length: int
    vocab_size: int
    origin: Path | None = None

    def prepare(self, options: JsonObject) -> Run:
        """Start or continue the run, and write tokenizer and token ids into its folder.

        Args:
            options: the content of ``config.json``.

        Raises:
            InputError: texts cannot be read or are too few, or a resumed run was started with
                others; the folder is then unchanged.
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

    def tokenise_missing(self) -> None:
        """Write the token ids of a finished run again where its folder lacks them.

        Raises:
            InputError: the texts cannot be read, or are not those of the training.
        """
        run = Run.open(self.out)
        tokenizer = open_tokenizer(run)
        for source in self._sources():
            if (source.folder / "corpus.json").exists():
                continue
            corpus = self._build(source, tokenizer, Removed())
            stored = run.data_record().get(source.option, {}).get("fingerprint")
            if stored not in (None, corpus.recipe["texts"]):
                shutil.rmtree(source.folder)
                raise InputError(
                    f"{source.texts}: not the texts of the training of {self.out}, which has "
                    f"another fingerprint of --{source.option}; restore them, or give --data"
                )

    @property
    def is_tokenised(self) -> bool:
        """Whether the run folder holds the token ids of all texts."""
        return all((source.folder / "corpus.json").exists() for source in self._sources())

    def split(self, validation_texts: int) -> tuple[Corpus, np.ndarray, Tensor]:
        """Return the corpus, its rows to train on, and the padded held-out texts (N, T).

        Validations use at most ``validation_texts`` of the held-out texts.
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
        """Return the texts of validations."""
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
        """Raise InputError where the run was started with other texts or another tokenizer."""
        run = Run.open(self.out)
        if run.kind != options["command"]:
            return  # Run.create raises
        tokenizer = open_tokenizer(run) if (self.out / "tokenizer.json").exists() else None
        if not run.data_record():
            self._refuse_changed_corpora(tokenizer)
            return

        record: dict[str, JsonObject] = {}
        for source in self._sources():
            count, fingerprint = fingerprint_texts(texts_of(source.texts))
            entry = {"source": source.texts, "fingerprint": fingerprint, "count": count}
            record[source.option] = entry
        if tokenizer is not None:
            record["tokenizer"] = tokenizer_record(tokenizer)
        record |= origin_record(self.origin, self.out, resumed=True)
        require_same_data(run, record)

    def _refuse_changed_corpora(self, tokenizer: Tokenizer | None) -> None:
        """Compare texts with the fingerprints in the corpora, of a run of version 0.1.0."""
        if tokenizer is None:
            return
        for source in self._sources():
            if (source.folder / "corpus.json").exists():
                self._build(source, tokenizer, Removed())

    def _tokenise(self, run: Run, resumed: bool) -> None:
        """Write those of ``tokenizer.json``, the corpora and ``data.json`` that are missing."""
        tokenizer = self._tokenizer(run)
        record = {"tokenizer": tokenizer_record(tokenizer)}
        corpora: dict[str, Corpus] = {}
        for source in self._sources():
            removed = Removed()
            if resumed and (source.folder / "corpus.json").exists():
                corpus = Corpus.open(source.folder)
            else:
                corpus = self._build(source, tokenizer, removed)
            corpora[source.option] = corpus
            record[source.option] = _record_of(source, corpus, removed)
        record |= origin_record(self.origin, self.out, resumed=resumed)
        self._require_enough(corpora)

        stored = run.data_record()
        if stored:  # a resumed run
            print_notes(notes_of(stored))
            return
        if not tokenizer.lossless:
            self._add_unknown_words(tokenizer, corpora, record)
        run.record_data(record)
        print_notes(notes_of(record))

    def _tokenizer(self, run: Run) -> Tokenizer:
        path = self.out / "tokenizer.json"
        if path.exists():
            return open_tokenizer(run)
        if self.origin is not None:
            tokenizer = open_tokenizer(Run.open(self.origin))
            write_json(path, tokenizer.to_json())
            return tokenizer
        tokenizer = train_tokenizer(self.data.tokenizer, texts_of(self.data.text), self.vocab_size)
        write_json(path, tokenizer.to_json())
        return tokenizer

    def _build(self, source: Source, tokenizer: Tokenizer, removed: Removed) -> Corpus:
        file = Path(source.texts)
        size = file.stat().st_size if source.texts != BUILT_IN and file.is_file() else None
        texts = texts_of(source.texts, removed=removed)
        with tqdm(
            total=size, unit="B", unit_scale=True, desc="tokenising", disable=None, leave=False
        ) as bar:
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

    def _add_unknown_words(
        self,
        tokenizer: Tokenizer,
        corpora: Mapping[str, Corpus],
        record: dict[str, JsonObject],
    ) -> None:
        """Add the shares of unknown words to ``record``, with notes where they are above 1%."""
        training = count_words_of(corpora["text"])
        if self.data.validation:
            add_unknown_words(record["text"], "training", training)
            held_out = count_words_of(corpora["validation"])
            add_unknown_words(record["validation"], "held_out", held_out)
            return
        rows = set(self._split_rows(len(corpora["text"]))[1].tolist())
        texts = texts_of(self.data.text)
        held_out = count_words_at(rows, texts, tokenizer, self.max_length)
        add_unknown_words(record["text"], "training", training.minus(held_out))
        add_unknown_words(record["text"], "held_out", held_out)

    def _split_rows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of ``count`` texts to train on, and those held out."""
        return split(count, self.data.held_out, self.seed)


# Option -> key, in a result, of the number of its texts that were left out.
COUNTS = {"text": "texts_left_out", "validation": "validation_texts_left_out"}


def _record_of(source: Source, corpus: Corpus, removed: Removed) -> JsonObject:
    """Return the entry of a source of texts in ``data.json``."""
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
