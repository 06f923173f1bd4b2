"""The training and validation pairs of a sentence model, as token ids in the run folder.

Texts are tokenised once, into ``corpus/`` and ``validation/`` of the run folder; a teacher's
vectors of them are in ``teacher.npy``, and the table of tokens that starts from its vectors in
``token_start.npy``. ``data.json`` holds the fingerprints of all, so that a resumed run refuses data
that have changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.data.notes import print_notes
from experiments.data.text_notes import Tally, notes_of, unknown_shares
from experiments.data.texts import require_rereadable
from experiments.sentences.batch import Examples
from experiments.sentences.data_options import PairData
from experiments.sentences.pair_record import (
    add_cut_texts,
    add_unknown_words,
    pair_record,
)
from experiments.sentences.pair_sets import PairSets
from experiments.sentences.stages import Stage
from experiments.sentences.teacher import open_vectors, teach, token_vectors
from experiments.sentences.token_start import (
    load_table,
    token_counts,
    token_table,
    token_texts,
    write_token_table,
)
from experiments.training.comparison import require_same_data
from experiments.training.distributed import World
from experiments.training.origin import has_weights
from experiments.training.published import TextOrigin
from experiments.training.run_folder import Run, or_nothing
from experiments.training.run_tokenizer import open_tokenizer, tokenizer_record
from univae.checkpoint import JsonObject, write_json
from univae.sentence.model import RoFormerSim
from univae.sentence.tokenizer import SimilarText, tokenizer_input
from univae.text.corpus import Corpus
from univae.text.tokenizers import Tokenizer, train_tokenizer

__all__ = ["PairCorpora"]

SHOWN = 10  # held-out texts in a report

# Option -> key, in a result, of the number of its texts that were cut.
CUT_KEYS = {"pairs": "cut", "validation": "validation_cut"}


@dataclass(frozen=True)
class PairCorpora:
    """The token ids of a run's texts, and the groups they are in.

    Args:
        data: the options.
        stage: the stage of training.
        out: the run folder.
        seed: of the choice of held-out groups.
        max_length: most tokens of a text, its end token included; longer texts are cut.
        vocab_size: most token ids that the tokenizer learns.
        device: where a teacher computes vectors.
        origin: the weights that the run starts from, whose tokenizer it has.
        vector_width: the largest width of the teacher's vectors, to which they are reduced; None:
            their own.
        table_width: the width of the table of tokens that starts from the teacher's vectors; None:
            it starts at random.
    """

    data: PairData
    stage: Stage
    out: Path
    seed: int
    max_length: int
    vocab_size: int
    device: str
    origin: TextOrigin = field(default_factory=TextOrigin)
    vector_width: int | None = None
    table_width: int | None = None

    def prepare(self, options: JsonObject, world: World) -> Run | None:
        """Start or continue the run, and write token ids and vectors into its folder.

        Args:
            options: the content of ``config.json``.
            world: the processes, of which the first does all of this.

        Raises:
            InputError: pairs cannot be read, do not fit the stage or are too few, or a resumed run
                was started with others; the folder is then unchanged.
        """
        if not world.first:
            return None
        for option in ("pairs", "contrasts", "validation"):
            for path in getattr(self.data, option):
                require_rereadable(f"--{option}", path)
        resumed = bool(options["resume"])
        sets = self._sets()
        sets.check()
        record = pair_record(sets, self.out, resumed=resumed)
        record |= self.origin.record(self.out, resumed=resumed)
        if resumed:
            self._refuse_changes(options, record, sets)
        run = Run.create(self.out, options)
        with or_nothing(run):
            self._write(run, record, sets, resumed)
        return run

    def text(self) -> SimilarText:
        """Return the run's tokenizer with its case and length of texts."""
        tokenizer = open_tokenizer(Run.open(self.out))
        return SimilarText(tokenizer, self.max_length, lowercase=self.data.lowercase)

    def examples(self) -> Examples:
        """Return the training and validation examples of a prepared run."""
        sets = self._sets()
        train, held_out = sets.split()
        groups, contrasts = sets.with_contrasts()
        corpus = Corpus.open(self.out / "corpus")
        teacher = None
        if self.data.teacher is not None:
            teacher = open_vectors(self.out / "teacher.npy", len(groups.texts))
        validation = None
        if sets.validation is not None:
            validation = (sets.validation, Corpus.open(self.out / "validation"))
        return Examples(groups, corpus, train, held_out, teacher, validation, contrasts)

    def start_tokens(self, model: RoFormerSim, *, resumed: bool) -> None:
        """Start the table of tokens of a new model from the teacher's vectors, if asked to."""
        if self.table_width is not None and not has_weights(self.out, resumed=resumed):
            load_table(self.out / "token_start.npy", model)

    def shown_texts(self) -> list[str]:
        """Return held-out texts for the report, one of each group."""
        sets = self._sets()
        groups = sets.groups
        held_out = sets.split()[1]
        first_texts = dict.fromkeys(groups.pairs[held_out, 0].tolist())
        return [groups.texts[i] for i in first_texts][:SHOWN]

    def counts(self, run: Run) -> JsonObject:
        """Return how many texts were cut, and the shares of unknown words, for the result."""
        record = run.data_record()
        counts: JsonObject = {}
        for option, key in CUT_KEYS.items():
            cut = record.get(option, {}).get("cut")
            if cut is not None:
                counts[key] = cut
        for entry in record.values():
            counts |= unknown_shares(entry)
        return counts

    def _sets(self) -> PairSets:
        return PairSets.read(self.data, self.stage, self.seed)

    def _refuse_changes(
        self, options: JsonObject, record: dict[str, JsonObject], sets: PairSets
    ) -> None:
        """Raise InputError where the run was started with other data or another tokenizer."""
        run = Run.open(self.out)
        if run.kind != options["command"]:
            return  # Run.create raises
        tokenizer = open_tokenizer(run) if (self.out / "tokenizer.json").exists() else None
        if run.data_record():
            words = {} if tokenizer is None else {"tokenizer": tokenizer_record(tokenizer)}
            require_same_data(run, {**record, **words})
        elif tokenizer is not None:  # of version 0.1.0: its corpora hold the fingerprints
            text = SimilarText(tokenizer, self.max_length, lowercase=self.data.lowercase)
            for name, texts in sets.corpora().items():
                if (self.out / name / "corpus.json").exists():
                    Corpus.build(texts, text, self.out / name, max_length=self.max_length)

    def _write(
        self, run: Run, record: dict[str, JsonObject], sets: PairSets, resumed: bool
    ) -> None:
        """Write those of tokenizer, token ids, vectors and ``data.json`` that are missing."""
        self._write_tokenizer(sets)
        text = self.text()
        record["tokenizer"] = tokenizer_record(text.tokenizer)
        for name, texts in sets.corpora().items():
            if resumed and (self.out / name / "corpus.json").exists():
                Corpus.open(self.out / name, text)  # raises where it is damaged
                continue
            tally = Tally()
            Corpus.build(texts, text.counting(tally), self.out / name, max_length=self.max_length)
            add_cut_texts(record, name, tally, self.max_length)
        if not self.stage.reads_labels and len(sets.split()[1]) == 1:
            held_out = f"--held-out {self.data.held_out:g} of {len(sets.groups)} groups holds out 1"
            note = f"{held_out}: recall and contrast of a single one say nothing; raise it"
            record["pairs"]["notes"].append(note)
        if not text.tokenizer.lossless:
            add_unknown_words(record, sets, text)
        self._write_vectors(record, sets, text.tokenizer)

        stored = run.data_record()
        run.record_data(record)
        print_notes(notes_of(stored or record))

    def _write_tokenizer(self, sets: PairSets) -> None:
        path = self.out / "tokenizer.json"
        if not path.exists():
            write_json(path, self._tokenizer(sets.texts).to_json())

    def _write_vectors(
        self, record: dict[str, JsonObject], sets: PairSets, tokenizer: Tokenizer
    ) -> None:
        """Write what a teacher teaches, if there is one, and add its notes to ``record``."""
        if self.data.teacher is None:
            return
        notes: list[str] = []
        tokens = [] if self.table_width is None else token_texts(tokenizer)
        teach(
            self.data.teacher,
            sets.texts,
            self.out / "teacher.npy",
            self.device,
            notes,
            width=self.vector_width,
            tokens=tokens,
        )
        table = self.out / "token_start.npy"
        if self.table_width is not None and not table.exists():
            vectors = token_vectors(self.data.teacher, tokens, self.device, notes)
            counts = token_counts(Corpus.open(self.out / "corpus"), len(tokens))
            write_token_table(table, token_table(vectors, counts, self.table_width))
        entry = record.get("teacher")
        if entry is not None:
            entry["notes"] = notes

    def new_tokenizer(self) -> Tokenizer:
        """Return the tokenizer that a new run has."""
        return self._tokenizer(self._sets().texts)

    def _tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """Return a new tokenizer, or that of the weights that the run starts from."""
        tokenizer = self.origin.tokenizer()
        if tokenizer is not None:
            return tokenizer
        kind = self.data.tokenizer
        lowercase = self.data.lowercase
        inputs = (tokenizer_input(text, kind, lowercase=lowercase) for text in texts)
        return train_tokenizer(kind, inputs, self.vocab_size)
