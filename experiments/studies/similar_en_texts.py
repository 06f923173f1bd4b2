"""The texts of the study of English sentences, and the vectors of its teacher.

Groups of texts with one meaning: the five captions of a picture, questions marked as duplicates,
English sentences with one Chinese translation. Single texts: the other questions and sentences, and
the whole words of the teacher's vocabulary.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.sentences.teacher import read_table, write_table
from experiments.studies.minilm import Teacher
from experiments.studies.sentences import Pair, captions, flips, labelled, rows_of, write_groups

__all__ = ["negated_questions", "questions", "write_training_files"]

LONGEST_NEGATED = 15  # words of a question with a negation
LIMITED_WORDS = 20000  # of the vocabulary, of which --limit uses every n-th

Group = list[str]


def questions(data: Path, split: str) -> list[Pair]:
    """Return the pairs of questions, labelled 1 where they are duplicates."""
    return labelled(rows_of(data / "qqp_20k" / f"{split}.tsv.gz", "\t"), 1, 0)


def negated_questions(data: Path, limit: int) -> list[str]:
    """Return at most ``limit`` short test questions with a negation."""
    negated = []
    for question, _, _ in questions(data, "test"):
        if flips("", question) and len(question.split()) < LONGEST_NEGATED:
            negated.append(question)
    return negated[:limit]


def write_training_files(
    arguments: argparse.Namespace, teacher: Teacher
) -> tuple[Path, Path, float]:
    """Write the texts and the teacher's vectors; return both files and the seconds it took.

    Vectors that are already in the file are not computed again.
    """
    arguments.out.mkdir(parents=True, exist_ok=True)
    groups, singles = _groups(arguments.data, arguments.limit)
    stride = max(1, LIMITED_WORDS // arguments.limit) if arguments.limit else 1
    words = [[word] for word in teacher.vocabulary()[::stride]]
    all_groups = [*groups, *singles, *words]
    texts_file = write_groups(arguments.out / "texts.jsonl", all_groups)

    start = time.perf_counter()
    vectors_file = arguments.out / "teacher.npz"
    texts: Sequence[str] = []
    vectors = np.empty((0, teacher.width), np.float16)
    if vectors_file.exists():
        texts, vectors = read_table(vectors_file)
    missing = sorted({text.strip() for group in all_groups for text in group} - set(texts))
    if missing:
        new_vectors = teacher.encode(missing).astype(np.float16)
        write_table(vectors_file, [*texts, *missing], np.concatenate((vectors, new_vectors)))
    return texts_file, vectors_file, time.perf_counter() - start


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
