"""The training and validation texts of a text model, as token ids in the run folder.

Texts are tokenised once, into ``corpus/`` and ``validation/`` of the run folder. ``data.json``
holds their fingerprints, so that a resumed run refuses texts that have changed.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from experiments.data.notes import print_notes
from experiments.data.text_notes import notes_of
from experiments.data.texts import listed
from experiments.text.data_options import TextData
from experiments.text.sources import Source, counts_of, sources_of
from experiments.text.unknown_words import add_unknown_words, count_words_at, count_words_of
from experiments.training.comparison import require_same_data
from experiments.training.distributed import World
from experiments.training.published import TextOrigin
from experiments.training.run_folder import Run, or_nothing
from experiments.training.run_tokenizer import open_tokenizer, tokenizer_record
from univae.checkpoint import JsonObject, write_json
from univae.errors import InputError
from univae.text.corpus import Corpus, Removed, split
from univae.text.tokenizers import Tokenizer, train_tokenizer

__all__ = ["Corpora"]

FEWEST = 2  # held-out texts: a validation measures variances and information between texts


@dataclass(frozen=True)
class Corpora:
    """The token ids of a run's texts.

    Args:
        data: the options.
        out: the run folder.
        seed: of the choice of held-out texts.
        max_length: most tokens of a text, its end token included; longer texts are left out.
        vocab_size: most token ids that the tokenizer learns.
        origin: the weights that the run starts from, whose tokenizer it has.
    """

    data: TextData
    out: Path
    seed: int
    max_length: int
    vocab_size: int
    origin: TextOrigin = field(default_factory=TextOrigin)

    def prepare(self, options: JsonObject, world: World) -> Run | None:
        """Start or continue the run, and write tokenizer and token ids into its folder.

        Args:
            options: the content of ``config.json``.
            world: the processes, which share the shards of large texts; only the first returns the
                run.

        Raises:
            InputError: texts cannot be read or are too few, or a resumed run was started with
                others; the folder is then unchanged.
        """
        resumed = bool(options["resume"])
        if not world.first:
            self._help(resumed, world)
            return None
        for source in self._sources():
            source.texts.require_rereadable(f"--{source.option}")
        if resumed:
            self._refuse_changes(options)
        run = Run.create(self.out, options)
        with or_nothing(run):
            self._tokenise(run, resumed, world)
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
            corpus = source.build(tokenizer, self.max_length, Removed())
            stored = run.data_record().get(source.option, {}).get("fingerprint")
            if stored not in (None, corpus.recipe["texts"]):
                shutil.rmtree(source.folder)
                raise InputError(
                    f"{source.texts.name}: not the texts of the training of {self.out}, which has "
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
        return counts_of(run.data_record())

    def _sources(self) -> list[Source]:
        return sources_of(self.data, self.out)

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
            record[source.option] = source.fingerprint()
        if tokenizer is not None:
            record["tokenizer"] = tokenizer_record(tokenizer)
        record |= self.origin.record(self.out, resumed=True)
        require_same_data(run, record)

    def _refuse_changed_corpora(self, tokenizer: Tokenizer | None) -> None:
        """Compare texts with the fingerprints in the corpora, of a run of version 0.1.0."""
        if tokenizer is None:
            return
        for source in self._sources():
            if (source.folder / "corpus.json").exists():
                source.build(tokenizer, self.max_length, Removed())

    def _help(self, resumed: bool, world: World) -> None:
        """Write this process' share of the shards, while the first process prepares the run."""
        world.wait()  # for the tokenizer
        tokenizer = open_tokenizer(Run.open(self.out))
        for source in self._sources():
            if not (resumed and (source.folder / "corpus.json").exists()):
                source.build(tokenizer, self.max_length, Removed(), world)

    def _tokenise(self, run: Run, resumed: bool, world: World) -> None:
        """Write those of ``tokenizer.json``, the corpora and ``data.json`` that are missing."""
        tokenizer = self._tokenizer(run)
        world.wait()
        record = {"tokenizer": tokenizer_record(tokenizer)}
        corpora: dict[str, Corpus] = {}
        for source in self._sources():
            removed = Removed()
            if resumed and (source.folder / "corpus.json").exists():
                corpus = Corpus.open(source.folder, tokenizer)
            else:
                corpus = source.build(tokenizer, self.max_length, removed, world)
            corpora[source.option] = corpus
            record[source.option] = source.record(corpus, removed)
        record |= self.origin.record(self.out, resumed=resumed)
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
        tokenizer = self.origin.tokenizer()
        if tokenizer is None:
            texts = self._sources()[0].texts.read()
            tokenizer = train_tokenizer(self.data.tokenizer, texts, self.vocab_size)
        write_json(path, tokenizer.to_json())
        return tokenizer

    def _require_enough(self, corpora: Mapping[str, Corpus]) -> None:
        """Raise InputError where too few texts are held out for a validation."""
        rule = f"{FEWEST} held-out texts are needed"
        if self.data.validation:
            held_out = len(corpora["validation"])
            if held_out < FEWEST:
                file = ", ".join(listed(self.data.validation))
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
        rows = self._split_rows(len(corpora["text"]))[1]
        texts = self._sources()[0].texts.read()
        held_out = count_words_at(rows, texts, tokenizer, self.max_length)
        add_unknown_words(record["text"], "training", training.minus(held_out))
        add_unknown_words(record["text"], "held_out", held_out)

    def _split_rows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of ``count`` texts to train on, and those held out."""
        return split(count, self.data.held_out, self.seed)
