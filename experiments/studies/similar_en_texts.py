"""The texts of the study of English sentences, and the vectors of its teacher.

Groups of texts with one meaning: the five captions of a picture, questions marked as duplicates,
English sentences with one Chinese translation. Single texts: the other questions and sentences, the
whole words of the teacher's vocabulary, and maybe sentences of Penn Treebank.

Where negations are kept apart, texts of a group with and without one are two groups, so that the
model does not learn to drop it; groups with negations are repeated; others are negated by rule; and
texts that differ in a negation alone are pairs to contrast.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.sentences.teacher import read_table, write_table
from experiments.studies.minilm import Teacher
from experiments.studies.negation import has_negation, toggled
from experiments.studies.sentences import Pair, captions, labelled, rows_of, stsb, write_groups

__all__ = [
    "Negations",
    "TextFiles",
    "contrasts_of",
    "negated_questions",
    "questions",
    "with_negations",
    "write_text_files",
    "write_vectors",
]

LONGEST_NEGATED = 15  # words of a question with a negation
LIMITED_WORDS = 20000  # of the vocabulary, of which --limit uses every n-th
PAIR = 2
REPLACED = ("<unk>", "N")  # words of Penn Treebank that stand for others

Group = list[str]


@dataclass(frozen=True)
class Negations:
    """How the negations of training texts are treated."""

    repeats: int = 4  # of a group with negations in an epoch
    negated: int = 4000  # most groups that are negated by rule
    contrasts: int = 20_000  # most pairs of texts that differ in a negation alone


@dataclass(frozen=True)
class TextFiles:
    """The files that a training reads."""

    pairs: Path
    contrasts: Path | None
    validation: Path
    texts: Sequence[str]  # of the first two, distinct


def questions(data: Path, split: str) -> list[Pair]:
    """Return the pairs of questions, labelled 1 where they are duplicates."""
    return labelled(rows_of(data / "qqp_20k" / f"{split}.tsv.gz", "\t"), 1, 0)


def negated_questions(data: Path, limit: int) -> list[str]:
    """Return at most ``limit`` short test questions with a negation."""
    negated = []
    for question, _, _ in questions(data, "test"):
        if has_negation(question) and len(question.split()) < LONGEST_NEGATED:
            negated.append(question)
    return negated[:limit]


def write_text_files(
    folder: Path,
    data: Path,
    words: Sequence[str],
    *,
    limit: int = 0,
    treebank: bool = False,
    negations: Negations | None = None,
) -> TextFiles:
    """Write the files of a training into ``folder``, and return them.

    Args:
        folder: where the files are written.
        data: the folder of the data sets.
        words: words that are single texts.
        limit: the most groups that are read of a source; 0: all.
        treebank: whether sentences of Penn Treebank are single texts.
        negations: how negations are kept apart; None: they are ignored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups, singles = _groups(data, limit)
    stride = max(1, LIMITED_WORDS // limit) if limit else 1
    singles += [[word] for word in words[::stride]]
    if treebank:
        singles += _treebank(data)[: limit or None]
    contrasts: list[Group] = []
    if negations is not None:
        texts = distinct([*groups, *singles])
        contrasts = contrasts_of(texts, negations.contrasts)
        groups = with_negations(groups, negations)

    all_groups = [*groups, *singles]
    return TextFiles(
        pairs=write_groups(folder / "texts.jsonl", all_groups),
        contrasts=write_groups(folder / "contrasts.jsonl", contrasts) if contrasts else None,
        validation=write_groups(folder / "stsb_dev.jsonl", stsb(data, "en", "dev")),
        texts=distinct([*all_groups, *contrasts]),
    )


def write_vectors(path: Path, texts: Iterable[str], teacher: Teacher) -> float:
    """Add the teacher's vectors of ``texts`` to a table; return the processor seconds it took.

    Vectors that are already in the file are not computed again.
    """
    start = time.process_time()
    stored: Sequence[str] = []
    vectors = np.empty((0, teacher.width), np.float16)
    if path.exists():
        stored, vectors = read_table(path)
    missing = sorted({text.strip() for text in texts if text.strip()} - set(stored))
    if missing:
        new_vectors = teacher.encode(missing).astype(np.float16)
        write_table(path, [*stored, *missing], np.concatenate((vectors, new_vectors)))
    return time.process_time() - start


def with_negations(groups: Iterable[Group], negations: Negations) -> list[Group]:
    """Return groups whose texts all have a negation or all have none, as ``negations`` says.

    A text that is alone with or without a negation is a group of its own.
    """
    with_one: list[Group] = []
    without: list[Group] = []
    for group in groups:
        negative = [text for text in group if has_negation(text)]
        affirmative = [text for text in group if not has_negation(text)]
        with_one += [negative] if negative else []
        without += [affirmative] if affirmative else []

    repeated: list[Group] = []
    for group in with_one:
        repeated += [group] * (negations.repeats if len(group) >= PAIR else 1)
    return [*without, *repeated, *_negated(without, negations.negated)]


def contrasts_of(texts: Sequence[str], count: int) -> list[Group]:
    """Return at most ``count`` texts with what differs in a negation alone.

    Those with a negation come first, then questions, then others, both in random order.
    """
    affirmed: list[Group] = []
    negated: list[Group] = []
    for text in texts:
        other = toggled(text)
        if other is not None:
            (affirmed if has_negation(text) else negated).append([text, other])
    return [*affirmed, *_questions_first(negated)][:count]


def distinct(groups: Iterable[Group]) -> list[str]:
    """Return the distinct texts of groups, in the order of their first occurrence."""
    return list(dict.fromkeys(text for group in groups for text in group))


def _negated(groups: Sequence[Group], count: int) -> list[Group]:
    """Return at most ``count`` groups of the negations of texts of a group, two or more.

    Questions come first, since captions are hardly ever negated.
    """
    negated: list[Group] = []
    for group in _questions_first([group for group in groups if len(group) >= PAIR]):
        if len(negated) == count:
            break
        texts = [text for text in map(toggled, group) if text is not None]
        if len(texts) >= PAIR:
            negated.append(texts)
    return negated


def _questions_first(groups: Sequence[Group]) -> list[Group]:
    """Return groups in random order, those that begin with a question first."""
    shuffled = [groups[i] for i in np.random.default_rng(0).permutation(len(groups))]
    return sorted(shuffled, key=lambda group: not group[0].endswith("?"))


def _treebank(data: Path) -> list[Group]:
    """Return the training sentences of Penn Treebank in which no word is replaced."""
    sentences = []
    for row in rows_of(data / "ptb" / "ptb.train.txt.gz", "\t"):
        sentence = " ".join(row).strip()
        if sentence and not set(REPLACED) & set(sentence.split()):
            sentences.append([sentence])
    return sentences


def _groups(data: Path, limit: int) -> tuple[list[Group], list[Group]]:
    """Return groups of two texts or more, and single texts.

    At most ``limit`` of each source; 0: all.
    """
    first = slice(limit or None)
    groups = captions(data, "train")[first]
    singles: list[Group] = []
    for a, b, is_duplicate in questions(data, "dev")[first]:
        if is_duplicate:
            groups.append([a, b])
        else:
            singles += [[a], [b]]

    by_translation: dict[str, list[str]] = {}
    for english, chinese, *_ in rows_of(data / "tatoeba_cmn_eng" / "cmn.txt.gz", "\t")[first]:
        by_translation.setdefault(chinese, []).append(english)
    sentences = [list(dict.fromkeys(english)) for english in by_translation.values()]
    groups += [group for group in sentences if len(group) > 1]
    singles += [group for group in sentences if len(group) == 1]
    return groups, singles
