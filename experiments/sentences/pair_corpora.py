"""The pairs of a sentence model's training: options, token ids in the run folder, what was cut.

Texts are tokenised once, into ``corpus/`` and ``validation/`` beside the run, and a teacher's
vectors of them lie in ``teacher.npy``. ``data.json`` holds the fingerprints of all, so that a
resumed run refuses data that have changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import tyro
from typing_extensions import Doc

from experiments.data.notes import print_notes
from experiments.data.pairs import Groups, read_groups
from experiments.data.sources import resolved
from experiments.data.text_notes import (
    MUCH,
    Tally,
    cut_notes,
    notes_of,
    share_of,
    unknown_notes,
    unknown_shares,
)
from experiments.data.texts import require_rereadable
from experiments.sentences.batch import Examples
from experiments.sentences.stages import Stage
from experiments.sentences.teacher import fingerprint_file, open_vectors, teach, teacher_record
from experiments.training.run_folder import Run, or_nothing
from experiments.training.run_tokenizer import open_tokenizer, tokenizer_record
from univae.checkpoint import JsonObject, existing_folder, write_json
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, check, within
from univae.sentence.tokenizer import SimilarText, tokenizer_input
from univae.text.corpus import Corpus
from univae.text.tokenizers import TOKENIZERS, Tokenizer, TokenizerName, train_tokenizer

__all__ = ["PairCorpora", "PairData"]

FEWEST = 2  # held-out labelled pairs: a rank correlation needs an order
SHOWN = 10  # held-out texts whose similar ones a report shows


@dataclass(frozen=True, kw_only=True)
class PairData:
    """The pairs to train on and to hold out, and what the run starts from."""

    pairs: tuple[Path, ...]  # .tsv or .jsonl files; labels are compared within a file
    validation: tuple[Path, ...] = ()  # files of labelled pairs; none: a share of --pairs
    held_out: float = 0.05  # share of --pairs that is held out
    # a run whose weights and words this one starts from
    from_run: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    # of --stage distil: the folder of a run, or a .npz of texts and vectors
    teacher: Path | None = None
    tokenizer: Annotated[TokenizerName, Doc(choices_help("what a token is", TOKENIZERS))] = "bpe"
    lowercase: bool = False  # texts are read, and written, in lower case

    RULES: ClassVar[Mapping[str, Rule]] = {"held_out": within("(0, 1)", "a share of the groups")}

    def __post_init__(self) -> None:
        check(self)
        if not self.pairs:
            raise InputError("--pairs needs at least one file of pairs or groups; got none")

    def absolute(self) -> "PairData":
        """Return the same with paths that mean the same files from every folder."""
        return replace(
            self,
            pairs=tuple(Path(resolved(str(path))) for path in self.pairs),
            validation=tuple(Path(resolved(str(path))) for path in self.validation),
            from_run=_absolute(self.from_run),
            teacher=_absolute(self.teacher),
        )

    @property
    def pair_files(self) -> str:
        """The files of ``--pairs``, for messages."""
        return ", ".join(map(str, self.pairs))


@dataclass(frozen=True)
class PairCorpora:
    """The token ids of a run's texts, and the groups they are in.

    Args:
        data: the options.
        stage: what the training reads.
        out: the run folder.
        seed: draws which groups are held out.
        max_length: tokens of a text, its end token included; longer texts are cut.
        vocab_size: at most so many token ids are learned.
        device: where a teacher computes vectors.
    """

    data: PairData
    stage: Stage
    out: Path
    seed: int
    max_length: int
    vocab_size: int
    device: str

    def prepare(self, options: JsonObject) -> Run:
        """Start or continue the run and write what training reads; ``options`` are its config.json.

        Raises:
            InputError: pairs cannot be read, do not fit the stage or are too few, or a resumed run
                was started with others. A refusal leaves the folder as it was.
        """
        for option, paths in (("--pairs", self.data.pairs), ("--validation", self.data.validation)):
            for path in paths:
                require_rereadable(option, path)
        resumed = bool(options["resume"])
        groups, validation = self._read(resumed)
        record = self._record(groups, validation, resumed)
        if resumed:
            self._refuse_changes(options, record, groups, validation)
        run = Run.create(self.out, options)
        with or_nothing(run):
            self._write(run, record, groups, validation, resumed)
        return run

    def text(self) -> SimilarText:
        """Return the run's tokenizer, with its treatment of case and length."""
        tokenizer = open_tokenizer(Run.open(self.out))
        return SimilarText(tokenizer, self.max_length, lowercase=self.data.lowercase)

    def examples(self) -> Examples:
        """Return what a prepared run is trained on and validated by."""
        groups = read_groups(*self.data.pairs)
        train_groups, held_out = self._split(groups)
        teacher = None
        validation = None
        if self.data.teacher is not None:
            teacher = open_vectors(self.out / "teacher.npy", len(groups.texts))
        if self.data.validation:
            corpus = Corpus.open(self.out / "validation")
            validation = (read_groups(*self.data.validation), corpus)
        corpus = Corpus.open(self.out / "corpus")
        return Examples(groups, corpus, train_groups, held_out, teacher, validation)

    def shown_texts(self) -> list[str]:
        """Return held-out texts for the report, one of each group."""
        groups = read_groups(*self.data.pairs)
        held_out = self._split(groups)[1]
        first_texts = dict.fromkeys(groups.pairs[held_out, 0].tolist())
        return [groups.texts[i] for i in first_texts][:SHOWN]

    def counts(self, run: Run) -> JsonObject:
        """Return how many texts were cut, and the shares of unknown words, for the result."""
        record = run.data_record()
        counts: JsonObject = {}
        for option, name in COUNTS.items():
            if "cut" in record.get(option, {}):
                counts[name] = record[option]["cut"]
        for entry in record.values():
            counts |= unknown_shares(entry)
        return counts

    def has_weights(self, resumed: bool) -> bool:
        """Return whether a resumed run continues from weights of its own."""
        return resumed and existing_folder(self.out / "checkpoints" / "last") is not None

    def _read(self, resumed: bool) -> tuple[Groups, Groups | None]:
        """Read pairs before anything is written, and refuse what the stage cannot use."""
        groups = read_groups(*self.data.pairs)
        validation = read_groups(*self.data.validation) if self.data.validation else None
        if self.data.from_run is not None and not self.has_weights(resumed):
            Run.open(self.data.from_run).checkpoint()
        files = self.data.pair_files
        if self.stage.reads_labels and groups.scores is None:
            raise InputError(
                f"--stage finetune needs labelled pairs; {files} has none; give text, text, label"
            )
        if not self.stage.reads_labels and groups.scores is not None:
            raise InputError(
                f"{files} has labels, which --stage {self.stage.name} does not read; give the "
                "similar pairs alone, without a label, or --stage finetune"
            )
        if (np.diff(groups.offsets) < self.stage.smallest_group).any():
            raise InputError(
                f"{files}: a line holds one text; --stage pretrain needs two of a kind, "
                "distil does not"
            )
        if validation is not None and validation.scores is None:
            files = " ".join(map(str, self.data.validation))
            raise InputError(f"--validation {files} has no labels; give text, text, label")
        self._require_enough(groups, validation)
        return groups, validation

    def _require_enough(self, groups: Groups, validation: Groups | None) -> None:
        """Raise InputError where too few labelled pairs are held out for a rank correlation."""
        held_out = self._split(groups)[1]
        rule = f"{FEWEST} held-out labelled pairs are needed"
        if validation is not None:
            assert validation.files is not None
            counts = np.bincount(validation.files, minlength=len(self.data.validation))
            if counts.min() < FEWEST:
                path = self.data.validation[int(counts.argmin())]
                given = f"--validation {path} gives {counts.min()}"
                raise InputError(f"{rule}; {given}; give more pairs")
        elif groups.files is not None and len(held_out) < FEWEST:
            pairs = f"{len(groups)} pairs with --held-out {self.data.held_out:g}"
            way_out = "raise it, or give --validation"
            raise InputError(f"{rule}; {pairs} give {len(held_out)}; {way_out}")

    def _record(
        self, groups: Groups, validation: Groups | None, resumed: bool
    ) -> dict[str, JsonObject]:
        """Return source, fingerprint and count of all that the run is trained from, by option."""
        record = {"pairs": _groups_record(self.data.pairs, groups)}
        if validation is not None:
            record["validation"] = _groups_record(self.data.validation, validation)
        before = Run.open(self.out).data_record() if resumed else {}
        teacher = self.data.teacher
        if teacher is not None:
            if resumed and not teacher.exists() and (self.out / "teacher.npy").exists():
                if "teacher" in before:  # the run has its vectors
                    record["teacher"] = before["teacher"]
            else:
                record["teacher"] = teacher_record(teacher)
        if self.data.from_run is not None:
            if self.has_weights(resumed):  # which have taken the place of that run's
                if "from" in before:
                    record["from"] = before["from"]
            else:
                record["from"] = _weights_record(self.data.from_run)
        return record

    def _refuse_changes(
        self,
        options: JsonObject,
        record: dict[str, JsonObject],
        groups: Groups,
        validation: Groups | None,
    ) -> None:
        """Raise InputError where data or tokenizer are not those the run was started with."""
        before = Run.open(self.out)
        if before.config.get("command") != options["command"]:
            return  # Run.create names the difference
        tokenizer = open_tokenizer(before) if (self.out / "tokenizer.json").exists() else None
        if before.data_record():
            words = {} if tokenizer is None else {"tokenizer": tokenizer_record(tokenizer)}
            Run(self.out, options).record_data({**record, **words})
        elif tokenizer is not None:  # of version 0.1.0: its corpora hold the fingerprints
            text = SimilarText(tokenizer, self.max_length, lowercase=self.data.lowercase)
            for name, texts in _corpora(groups, validation).items():
                if (self.out / name / "corpus.json").exists():
                    Corpus.build(texts, text, self.out / name, max_length=self.max_length)

    def _write(
        self,
        run: Run,
        record: dict[str, JsonObject],
        groups: Groups,
        validation: Groups | None,
        resumed: bool,
    ) -> None:
        """Write tokenizer, token ids, the teacher's vectors and ``data.json``, where missing."""
        path = self.out / "tokenizer.json"
        if not path.exists():
            write_json(path, self._tokenizer(groups).to_json())
        text = self.text()
        record["tokenizer"] = tokenizer_record(text.tokenizer)
        for name, texts in _corpora(groups, validation).items():
            if resumed and (self.out / name / "corpus.json").exists():  # its texts were compared
                Corpus.open(self.out / name)
                continue
            self._build(name, texts, text, record)
        if not self.stage.reads_labels and len(self._split(groups)[1]) == 1:
            held_out = f"--held-out {self.data.held_out:g} of {len(groups)} groups holds out 1"
            note = f"{held_out}: recall and contrast of a single one say nothing; raise it"
            record["pairs"]["notes"].append(note)
        if not text.tokenizer.lossless:
            self._count_unknown(text, groups, validation, record)
        if self.data.teacher is not None:
            notes: list[str] = []
            vectors = self.out / "teacher.npy"
            teach(self.data.teacher, groups.texts, vectors, self.device, notes)
            if "teacher" in record:
                record["teacher"]["notes"] = notes

        before = run.data_record()
        run.record_data(record)
        print_notes(notes_of(before or record))

    def _build(
        self, name: str, texts: list[str], text: SimilarText, record: dict[str, JsonObject]
    ) -> None:
        """Tokenise a corpus, and add to ``record`` how many texts were cut."""
        tally = Tally()
        Corpus.build(texts, text.counting(tally), self.out / name, max_length=self.max_length)
        option = OPTIONS[name]
        record[option]["cut"] = tally.cut
        for note in cut_notes(f"--{option}", tally, self.max_length):
            record[option]["notes"].append(f"{note}; raise --max-length")

    def _tokenizer(self, groups: Groups) -> Tokenizer:
        """Return a new tokenizer, or that of the run this one starts from."""
        if self.data.from_run is not None:
            return open_tokenizer(Run.open(self.data.from_run))
        kind = self.data.tokenizer
        lowercase = self.data.lowercase
        texts = (tokenizer_input(text, kind, lowercase=lowercase) for text in groups.texts)
        return train_tokenizer(kind, texts, self.vocab_size)

    def _count_unknown(
        self,
        text: SimilarText,
        groups: Groups,
        validation: Groups | None,
        record: dict[str, JsonObject],
    ) -> None:
        """Add the shares of unknown words to ``record``, with notes where they are above 1%."""
        train, held_out = (_members(groups, rows) for rows in self._split(groups))
        _add_unknown(text, record["pairs"], "training", [groups.texts[i] for i in train])
        if validation is not None:
            _add_unknown(text, record["validation"], "held_out", validation.texts)
        else:
            _add_unknown(text, record["pairs"], "held_out", [groups.texts[i] for i in held_out])

    def _split(self, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
        """Return groups to train on and held out; none of labelled pairs with --validation."""
        if self.stage.reads_labels and self.data.validation:
            return np.arange(len(groups)), np.arange(0)
        return groups.split(self.data.held_out, self.seed)


# Corpus in the run folder -> the option that names its texts.
OPTIONS = {"corpus": "pairs", "validation": "validation"}

# Option -> the name of the number of its texts that were cut.
COUNTS = {"pairs": "cut", "validation": "validation_cut"}


def _corpora(groups: Groups, validation: Groups | None) -> dict[str, list[str]]:
    """Return the texts of each corpus in the run folder."""
    corpora = {"corpus": groups.texts}
    if validation is not None:
        corpora["validation"] = validation.texts
    return corpora


def _groups_record(paths: tuple[Path, ...], groups: Groups) -> JsonObject:
    return {
        "source": ", ".join(map(str, paths)),
        "fingerprint": groups.fingerprint(),
        "count": len(groups),
        "texts": len(groups.texts),
        "notes": list(groups.notes),
    }


def _weights_record(run: Path) -> JsonObject:
    weights = Run.open(run).checkpoint() / "model.safetensors"
    return {"source": str(run), "fingerprint": fingerprint_file(weights), "count": 1}


def _members(groups: Groups, rows: np.ndarray) -> list[int]:
    """Return the texts of some groups, each once."""
    spans = [groups.members[groups.offsets[row] : groups.offsets[row + 1]] for row in rows]
    return np.unique(np.concatenate(spans)).tolist() if spans else []


def _add_unknown(text: SimilarText, entry: JsonObject, role: str, texts: list[str]) -> None:
    """Add the share of unknown words in ``texts`` to an entry of data.json, noted above 1%."""
    unknown = sum(map(text.unknown, texts))
    words = sum(len(one.split()) for one in texts)
    entry[f"unknown_words_{role}"] = share_of(unknown, words)
    label = f"{role.replace('_', '-')} texts"
    entry["notes"] += unknown_notes(label, unknown, words, above=MUCH)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else Path(resolved(str(path)))
