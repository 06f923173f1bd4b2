"""``univae train-similar``: a RoFormer-Sim on pairs or groups of similar texts, or on labelled pairs."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tyro

from experiments.cli.commands import run
from experiments.cli.options import stored
from experiments.data.notes import print_notes, with_notes
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
from experiments.evaluation.open_run import open_run
from experiments.reports.page import write as write_report
from experiments.sentences.batch import Examples, Objective
from experiments.sentences.label_task import LabelTask
from experiments.sentences.pair_task import pair_task
from experiments.sentences.presets import PRESETS
from experiments.sentences.samples import write_samples
from experiments.sentences.teacher import fingerprint_file, open_vectors, teach, teacher_record
from experiments.training.distributed import join
from experiments.training.loop import fit
from experiments.training.run_folder import Run, or_nothing
from experiments.training.run_tokenizer import open_tokenizer, tokenizer_record
from experiments.training.settings import Settings
from experiments.training.task import reseed
from univae.checkpoint import existing_folder, load_weights, write_json
from univae.errors import InputError
from univae.rules import Rule, within
from univae.sentence.model import RoFormerSim, RoFormerSimConfig
from univae.sentence.tokenizer import SimilarText
from univae.sentence.trained import TrainedSimilar, similar_config
from univae.text.corpus import Corpus
from univae.text.noise import Noise, WordNoise
from univae.text.tokenizers import VOCABULARY, Tokenizer, require_vocabulary, train_tokenizer

__all__ = ["PRESETS", "Config", "main", "train"]

FEWEST = 2  # held-out labelled pairs: a rank correlation needs an order
SHOWN = 10  # held-out texts whose similar ones a report shows


@dataclass(frozen=True, kw_only=True)
class Config(Settings, Objective, RoFormerSimConfig):
    """Trains a RoFormer-Sim, and writes a run folder with a report.

    A line of --pairs is a pair or a group of similar texts, parted by tabs (.tsv) or a JSON list
    (.jsonl); with a label in the third place, a number or contradiction, neutral, entailment, it is
    a pair for --stage finetune, whose batches are each of one file.
    """

    pairs: tuple[Path, ...]  # .tsv or .jsonl files; labels are compared within a file
    out: Path  # the run folder
    validation: tuple[Path, ...] = ()  # files of labelled pairs; none: a share of --pairs
    held_out: float = 0.05  # that share
    # a run to start from: its weights and words
    from_run: Annotated[Path | None, tyro.conf.arg(name="from")] = None
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
            raise InputError(
                f"--chunk-size and --gather are of pretrain and distil; got {given}; leave them out"
            )
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
    """Train, then writes examples and the report.

    The JSON holds what the last validation measured.
    """
    result = train(config)
    if int(os.environ.get("RANK", "0")) == 0:
        opened = open_run(TrainedSimilar, config.out, config.device)
        if config.stage != "finetune" and config.generation:
            write_samples(opened, _shown(config))
        result["report"] = str(write_report(config.out))
    return {name: value for name, value in result.items() if name != "selection"}


def train(config: Config) -> dict[str, Any]:
    """Tokenise once beside the run, then fits.

    What :func:`experiments.training.loop.fit` returns.
    """
    config = _inherited(_absolute(config))
    with join(config.device) as world:
        folder: Run | None = None
        if world.first:  # the others find everything in place
            folder = _prepared(config)
        world.wait()
        folder = folder or Run.create(config.out, dataclasses.asdict(config))
        with or_nothing(folder):
            result = _with_account(_fit(config, folder), folder)
        folder.finish(result)
        return result


def _fit(config: Config, folder: Run) -> dict[str, Any]:
    """Train the stage that is asked for."""
    text = _text(config)
    examples = _examples(config)
    reseed(config.seed, "weights")
    model = RoFormerSim(similar_config(dataclasses.asdict(config), text.vocab_size))
    if config.from_run is not None and not _has_checkpoint(config):
        load_weights(model, Run.open(config.from_run).checkpoint() / "model.safetensors")
    if config.stage == "finetune":
        return fit(LabelTask(model, config, config.seed, examples), config, folder)
    noise = WordNoise(text.tokenizer, model.mask, config.noise())
    return fit(pair_task(model, config, config.seed, examples, noise), config, folder)


def _absolute(config: Config) -> Config:
    """Return the configuration with paths that mean the same files from every folder.

    A resumed run without ``data.json`` (version 0.1.0) keeps the paths that its ``config.json``
    is compared by.
    """
    if config.resume and not (config.out / "data.json").exists():
        return config
    changes: dict[str, Any] = {}
    for name in ("pairs", "validation"):
        changes[name] = tuple(Path(resolved(str(path))) for path in getattr(config, name))
    for name in ("from_run", "teacher"):
        path = getattr(config, name)
        changes[name] = None if path is None else Path(resolved(str(path)))
    return dataclasses.replace(config, **changes)


def _has_checkpoint(config: Config) -> bool:
    """Tell whether a resumed run goes on from weights of its own."""
    return config.resume and existing_folder(config.out / "checkpoints" / "last") is not None


def _prepared(config: Config) -> Run:
    """Start or continue the run and write what training reads.

    A refusal leaves the folder as it was.
    """
    for option, paths in (("--pairs", config.pairs), ("--validation", config.validation)):
        for path in paths:
            require_rereadable(option, path)
    groups, judges = _checked(config)
    record = _sources(config, groups, judges)
    if config.resume:
        _refuse_changes(config, record, groups, judges)
    run = Run.create(config.out, dataclasses.asdict(config))
    with or_nothing(run):
        _prepare(config, run, record, groups, judges)
    return run


def _sources(config: Config, groups: Groups, judges: Groups | None) -> dict[str, dict[str, Any]]:
    """Return source, fingerprint and count of all that the run is trained from, by option."""
    record = {"pairs": _groups_record(config.pairs, groups)}
    if judges is not None:
        record["validation"] = _groups_record(config.validation, judges)
    before = Run.open(config.out).data_record() if config.resume else {}
    if config.teacher is not None:
        if config.resume and not config.teacher.exists() and (config.out / "teacher.npy").exists():
            if "teacher" in before:  # the run has its vectors
                record["teacher"] = before["teacher"]
        else:
            record["teacher"] = teacher_record(config.teacher)
    if config.from_run is not None:
        if _has_checkpoint(config):  # whose weights have taken the place of that run's
            if "from" in before:
                record["from"] = before["from"]
        else:
            weights = Run.open(config.from_run).checkpoint() / "model.safetensors"
            record["from"] = {
                "source": str(config.from_run),
                "fingerprint": fingerprint_file(weights),
                "count": 1,
            }
    return record


def _groups_record(paths: tuple[Path, ...], groups: Groups) -> dict[str, Any]:
    return {
        "source": ", ".join(map(str, paths)),
        "fingerprint": groups.fingerprint(),
        "count": len(groups),
        "texts": len(groups.texts),
        "notes": list(groups.notes),
    }


def _refuse_changes(
    config: Config,
    record: dict[str, dict[str, Any]],
    groups: Groups,
    judges: Groups | None,
) -> None:
    """Raise InputError where data or tokenizer are not those that the run was started with."""
    before = Run.open(config.out)
    if before.config.get("command") != config.command:
        return  # Run.create names the difference
    tokenizer = open_tokenizer(before) if (config.out / "tokenizer.json").exists() else None
    if before.data_record():
        words = {} if tokenizer is None else {"tokenizer": tokenizer_record(tokenizer)}
        Run(config.out, dataclasses.asdict(config)).record_data({**record, **words})
    elif tokenizer is not None:  # of version 0.1.0: its corpora know their texts
        text = SimilarText(tokenizer, config.max_length, lowercase=config.lowercase)
        for name, texts in _corpora(groups, judges).items():
            if (config.out / name / "corpus.json").exists():
                Corpus.build(texts, text, config.out / name, max_length=config.max_length)


def _corpora(groups: Groups, judges: Groups | None) -> dict[str, list[str]]:
    """Return the texts of each corpus in the run folder."""
    return {"corpus": groups.texts} | ({} if judges is None else {"validation": judges.texts})


def _inherited(config: Config) -> Config:
    """The configuration with the shape of the run it starts from.

    An option that contradicts that run is refused.
    """
    if config.from_run is None:
        return config
    if _has_checkpoint(config) and not config.from_run.exists():
        return config  # a resumed run holds all it took over
    run = Run.open(config.from_run)
    if run.config.get("command") != config.command:
        raise InputError(
            f"--from {config.from_run} is no sentence model; give the --out of train-similar"
        )
    missing = sorted({*INHERITED, "max_length"} - run.config.keys())
    if missing:
        lacks = f"config.json lacks {', '.join(missing)}; the run folder is damaged"
        raise InputError(f"--from {config.from_run}: {lacks}")
    before = dataclasses.asdict(stored(Config, run))
    other = {name: before[name] for name in (*INHERITED, "max_length")}
    default = {field.name: field.default for field in dataclasses.fields(config)}
    for name in INHERITED:
        if getattr(config, name) not in (default[name], other[name]):
            raise InputError(
                f"{name}={getattr(config, name)}: --from {config.from_run} has {name}={other[name]}; leave it out"
            )
    names = (*INHERITED, *(("max_length",) if config.max_length == default["max_length"] else ()))
    return dataclasses.replace(config, **{name: other[name] for name in names})


def _checked(config: Config) -> tuple[Groups, Groups | None]:
    """Read pairs before anything is written, and refuse what the stage cannot use."""
    groups = read_groups(*config.pairs)
    judges = read_groups(*config.validation) if config.validation else None
    given = ", ".join(map(str, config.pairs))
    if config.from_run is not None and not _has_checkpoint(config):
        Run.open(config.from_run).checkpoint()
    if config.stage == "finetune" and groups.scores is None:
        raise InputError(
            f"--stage finetune needs labelled pairs; {given} has none; give text, text, label"
        )
    if config.stage != "finetune" and groups.scores is not None:
        raise InputError(
            f"{given} has labels, which --stage {config.stage} does not read; give the similar pairs alone, "
            "without a label, or --stage finetune"
        )
    if config.stage == "pretrain" and (np.diff(groups.offsets) < 2).any():
        raise InputError(
            f"{given}: a line holds one text; --stage pretrain needs two of a kind, distil does not"
        )
    if judges is not None and judges.scores is None:
        files = " ".join(map(str, config.validation))
        raise InputError(f"--validation {files} has no labels; give text, text, label")
    _require_enough(config, groups, judges)
    return groups, judges


def _require_enough(config: Config, groups: Groups, judges: Groups | None) -> None:
    """Raise InputError where too few labelled pairs are held out for a rank correlation."""
    held_out = _split(config, groups)[1]
    rule = f"{FEWEST} held-out labelled pairs are needed"
    if judges is not None:
        assert judges.files is not None
        fewest = np.bincount(judges.files, minlength=len(config.validation))
        if fewest.min() < FEWEST:
            path = config.validation[int(fewest.argmin())]
            raise InputError(f"{rule}; --validation {path} gives {fewest.min()}; give more pairs")
    elif groups.files is not None:
        pairs = f"{len(groups)} pairs with --held-out {config.held_out:g}"
        if len(held_out) < FEWEST:
            way_out = "raise it, or give --validation"
            raise InputError(f"{rule}; {pairs} give {len(held_out)}; {way_out}")


def _split(config: Config, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Group to train on and held out; none of labelled pairs where others judge them."""
    if config.stage == "finetune" and config.validation:
        return np.arange(len(groups)), np.arange(0)
    return groups.split(config.held_out, config.seed)


def _prepare(
    config: Config,
    run: Run,
    record: dict[str, dict[str, Any]],
    groups: Groups,
    judges: Groups | None,
) -> None:
    """Write tokenizer, token ids, the teacher's vectors and ``data.json``, where missing."""
    path = config.out / "tokenizer.json"
    if not path.exists():
        write_json(path, _tokenizer(config, groups).to_json())
    text = _text(config)
    record["tokenizer"] = tokenizer_record(text.tokenizer)
    for name, texts in _corpora(groups, judges).items():
        tally = Tally()
        folder = config.out / name
        if config.resume and (folder / "corpus.json").exists():  # its texts have been compared
            Corpus.open(folder)
            continue
        Corpus.build(texts, text.counting(tally), folder, max_length=config.max_length)
        option = "validation" if name == "validation" else "pairs"
        record[option]["cut"] = tally.cut
        cut = cut_notes(f"--{option}", tally, config.max_length)
        record[option]["notes"] += [f"{note}; raise --max-length" for note in cut]
    if config.stage != "finetune" and len(_split(config, groups)[1]) == 1:
        held_out = f"--held-out {config.held_out:g} of {len(groups)} groups holds out 1"
        note = f"{held_out}: recall and contrast of a single one say nothing; raise it"
        record["pairs"]["notes"].append(note)
    _count_unknown(config, text, groups, judges, record)
    if config.teacher is not None:
        notes: list[str] = []
        teach(config.teacher, groups.texts, config.out / "teacher.npy", config.device, notes)
        if "teacher" in record:
            record["teacher"]["notes"] = notes
    before = run.data_record()
    run.record_data(record)
    print_notes(notes_of(before or record))


def _count_unknown(
    config: Config,
    text: SimilarText,
    groups: Groups,
    judges: Groups | None,
    record: dict[str, dict[str, Any]],
) -> None:
    """Add the shares of unknown words to ``record``, with notes where they are above 1%."""
    if text.tokenizer.kind != "words":  # the others write every text
        return
    train, held_out = (_members(groups, rows) for rows in _split(config, groups))
    sides = [("pairs", "training", [groups.texts[i] for i in train])]
    if judges is not None:
        sides.append(("validation", "held_out", judges.texts))
    else:
        sides.append(("pairs", "held_out", [groups.texts[i] for i in held_out]))
    for role, name, texts in sides:
        unknown = sum(map(text.unknown, texts))
        words = sum(len(one.split()) for one in texts)
        record[role][f"unknown_words_{name}"] = share_of(unknown, words)
        label = f"{name.replace('_', '-')} texts"
        record[role]["notes"] += unknown_notes(label, unknown, words, above=MUCH)


def _members(groups: Groups, rows: np.ndarray) -> list[int]:
    """Return the texts of some groups, each once."""
    spans = [groups.members[groups.offsets[row] : groups.offsets[row + 1]] for row in rows]
    return np.unique(np.concatenate(spans)).tolist() if spans else []


def _with_account(result: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return the result with what ``data.json`` says was cut, or is unknown."""
    record = run.data_record()
    counts: dict[str, Any] = {}
    for option, name in (("pairs", "cut"), ("validation", "validation_cut")):
        if "cut" in record.get(option, {}):
            counts[name] = record[option]["cut"]
    for entry in record.values():
        counts |= unknown_shares(entry)
    return with_notes({**counts, **result}, [*notes_of(record), *result.get("notes", [])])


def _tokenizer(config: Config, groups: Groups) -> Tokenizer:
    if config.from_run is not None:
        return open_tokenizer(Run.open(config.from_run))
    lead = " " if config.tokenizer == "bpe" else ""
    level = (" ".join(text.split()) for text in groups.texts)
    texts = (lead + (text.lower() if config.lowercase else text) for text in level)
    return train_tokenizer(config.tokenizer, texts, config.vocab_size)


def _text(config: Config) -> SimilarText:
    tokenizer = open_tokenizer(Run.open(config.out))
    return SimilarText(tokenizer, config.max_length, lowercase=config.lowercase)


def _examples(config: Config) -> Examples:
    groups = read_groups(*config.pairs)
    train_groups, held_out = _split(config, groups)
    teacher = None
    validation = None
    if config.teacher is not None:
        teacher = open_vectors(config.out / "teacher.npy", len(groups.texts))
    if config.validation:
        validation = (read_groups(*config.validation), Corpus.open(config.out / "validation"))
    return Examples(
        groups, Corpus.open(config.out / "corpus"), train_groups, held_out, teacher, validation
    )


def _shown(config: Config) -> list[str]:
    """Held-out texts, one of each group."""
    groups = read_groups(*config.pairs)
    held_out = _split(config, groups)[1]
    return [groups.texts[i] for i in dict.fromkeys(groups.pairs[held_out, 0].tolist())][:SHOWN]


if __name__ == "__main__":
    run(Config, main)
