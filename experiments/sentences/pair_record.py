"""The record of a sentence model's training data in ``data.json``: fingerprints, counts, notes."""

from collections.abc import Sequence
from pathlib import Path

from experiments.data.pairs import Groups
from experiments.data.text_notes import MUCH, Tally, cut_notes, share_of, unknown_notes
from experiments.sentences.pair_sets import PairSets
from experiments.sentences.teacher import teacher_record
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder
from univae.sentence.tokenizer import SimilarText

__all__ = ["add_cut_texts", "add_unknown_words", "pair_record"]

# Corpus in the run folder -> the option that names its texts.
OPTIONS = {"corpus": "pairs", "validation": "validation"}


def pair_record(sets: PairSets, out: Path, *, resumed: bool) -> dict[str, JsonObject]:
    """Return source, fingerprint and count of pairs and teacher, by option.

    A resumed run has a copy of the teacher's vectors: their entry is that of its ``data.json``
    where the original is no longer read.
    """
    data = sets.data
    record = {"pairs": _groups_record(data.pairs, sets.groups)}
    if sets.validation is not None:
        record["validation"] = _groups_record(data.validation, sets.validation)
    if sets.contrasts is not None:
        record["contrasts"] = _contrasts_record(sets, sets.contrasts)
    if data.teacher is None:
        return record
    has_copy = resumed and (out / "teacher.npy").exists()
    if has_copy and not data.teacher.exists():
        stored = RunFolder.open(out).data_record()
        return {**record, "teacher": stored["teacher"]} if "teacher" in stored else record
    record["teacher"] = teacher_record(data.teacher)
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


def _groups_record(paths: tuple[Path, ...], groups: Groups) -> JsonObject:
    return {
        "source": ", ".join(map(str, paths)),
        "fingerprint": groups.fingerprint(),
        "count": len(groups),
        "texts": len(groups.texts),
        "notes": list(groups.notes),
    }


def _contrasts_record(sets: PairSets, contrasts: Groups) -> JsonObject:
    record = _groups_record(sets.data.contrasts, contrasts)
    _, pairs = sets.with_contrasts()
    left_out = len(contrasts) - len(pairs) if pairs is not None else 0
    if left_out:
        record["notes"].append(
            f"--contrasts: {left_out} of {len(contrasts)} pairs have a held-out text, or are two "
            "texts of one group, and were left out"
        )
    return record


def _add_share(entry: JsonObject, role: str, texts: Sequence[str], text: SimilarText) -> None:
    """Add the share of unknown words in ``texts``, of the set ``role``, to an entry."""
    unknown = sum(map(text.unknown, texts))
    words = sum(len(one.split()) for one in texts)
    entry[f"unknown_words_{role}"] = share_of(unknown, words)
    label = f"{role.replace('_', '-')} texts"
    entry["notes"] += unknown_notes(label, unknown, words, above=MUCH)
