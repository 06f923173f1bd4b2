"""The record of a sentence model's training data in ``data.json``: fingerprints, counts, notes."""

from collections.abc import Sequence
from pathlib import Path

from experiments.data.pairs import Groups
from experiments.data.text_notes import MUCH, Tally, cut_notes, share_of, unknown_notes
from experiments.sentences.data_options import PairData
from experiments.sentences.pair_sets import PairSets
from experiments.sentences.teacher import fingerprint_file, teacher_record
from univae.checkpoint import JsonObject, existing_folder
from univae.run_folder import RunFolder
from univae.sentence.tokenizer import SimilarText

__all__ = ["add_cut_texts", "add_unknown_words", "has_weights", "pair_record"]

# Corpus in the run folder -> the option that names its texts.
OPTIONS = {"corpus": "pairs", "validation": "validation"}


def has_weights(out: Path, *, resumed: bool) -> bool:
    """Return whether a resumed run has weights in its folder, so that it needs no initial ones."""
    return resumed and existing_folder(out / "checkpoints" / "last") is not None


def pair_record(sets: PairSets, out: Path, *, resumed: bool) -> dict[str, JsonObject]:
    """Return source, fingerprint and count of pairs, teacher and initial weights, by option.

    A resumed run has a copy of the teacher's vectors, and its own weights: their entries are those
    of its ``data.json`` where the originals are no longer read.
    """
    data = sets.data
    record = {"pairs": _groups_record(data.pairs, sets.groups)}
    if sets.validation is not None:
        record["validation"] = _groups_record(data.validation, sets.validation)
    stored = RunFolder.open(out).data_record() if resumed else {}

    current = _teacher_and_weights(data, out, resumed=resumed)
    for option, entry in current.items():
        known_entry = stored.get(option) if entry is None else entry
        if known_entry is not None:
            record[option] = known_entry
    return record


def add_cut_texts(record: dict[str, JsonObject], corpus: str, tally: Tally, most: int) -> None:
    """Add to ``record`` how many texts of a corpus were cut to ``most`` tokens, with a note."""
    option = OPTIONS[corpus]
    record[option]["cut"] = tally.cut
    for note in cut_notes(f"--{option}", tally, most):
        record[option]["notes"].append(f"{note}; raise --max-length")


def add_unknown_words(record: dict[str, JsonObject], sets: PairSets, text: SimilarText) -> None:
    """Add the shares of unknown words to ``record``, with notes where they are above 1%."""
    train, held_out = sets.split()
    _add_share(record["pairs"], "training", sets.texts_of(train), text)
    if sets.validation is not None:
        _add_share(record["validation"], "held_out", sets.validation.texts, text)
    else:
        _add_share(record["pairs"], "held_out", sets.texts_of(held_out), text)


def _teacher_and_weights(
    data: PairData, out: Path, *, resumed: bool
) -> dict[str, JsonObject | None]:
    """Return the entries of --teacher and --from; None for one that is no longer read."""
    entries: dict[str, JsonObject | None] = {}
    if data.teacher is not None:
        has_copy = resumed and (out / "teacher.npy").exists()
        is_gone = has_copy and not data.teacher.exists()
        entries["teacher"] = None if is_gone else teacher_record(data.teacher)
    if data.from_run is not None:
        is_replaced = has_weights(out, resumed=resumed)
        entries["from"] = None if is_replaced else _weights_record(data.from_run)
    return entries


def _groups_record(paths: tuple[Path, ...], groups: Groups) -> JsonObject:
    return {
        "source": ", ".join(map(str, paths)),
        "fingerprint": groups.fingerprint(),
        "count": len(groups),
        "texts": len(groups.texts),
        "notes": list(groups.notes),
    }


def _weights_record(run: Path) -> JsonObject:
    weights = RunFolder.open(run).checkpoint() / "model.safetensors"
    return {"source": str(run), "fingerprint": fingerprint_file(weights), "count": 1}


def _add_share(entry: JsonObject, role: str, texts: Sequence[str], text: SimilarText) -> None:
    """Add the share of unknown words in ``texts``, of the set ``role``, to an entry."""
    unknown = sum(map(text.unknown, texts))
    words = sum(len(one.split()) for one in texts)
    entry[f"unknown_words_{role}"] = share_of(unknown, words)
    label = f"{role.replace('_', '-')} texts"
    entry["notes"] += unknown_notes(label, unknown, words, above=MUCH)
