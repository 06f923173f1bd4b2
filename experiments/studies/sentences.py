"""Data and measures of the studies of sentence models: captions, questions, scored pairs.

The folder of the data has the subfolders ``multi30k_en``, ``qqp_20k``, ``tatoeba_cmn_eng``,
``stsb``, ``atec``, ``lcqmc`` and ``bq_corpus`` with the published files, gzipped.
"""

import csv
import gzip
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from experiments import train_similar
from experiments.sentences.evaluation import correlation
from experiments.studies.reuse import require_same_options, stored_options
from univae.checkpoint import write_text_atomic
from univae.errors import InputError
from univae.sentence.nearest import top_k

__all__ = [
    "Encode",
    "Pair",
    "auroc",
    "captions",
    "cosines",
    "distinct_2",
    "labelled",
    "recall",
    "rows_of",
    "spearman_of",
    "stsb",
    "train_once",
    "write_groups",
]

Encode: TypeAlias = Callable[[Sequence[str]], np.ndarray]  # texts to unit vectors (N, width)
Pair: TypeAlias = tuple[str, str, float]  # two texts with a score or label
CAPTIONS = 5  # of one picture
LABELS = ("0", "1")
POSITIVE = 0.5  # labels above are 1


def _tab_rows(file: Iterable[str]) -> Iterator[list[str]]:
    """Return rows of cells separated by tabs, without quotes."""
    return (line.rstrip("\r\n").split("\t") for line in file)


READERS: Mapping[str, Callable[[Iterable[str]], Iterator[list[str]]]] = {
    "\t": _tab_rows,
    ",": csv.reader,
}


def rows_of(path: Path, delimiter: str) -> list[list[str]]:
    """Return the rows of a gzipped table; cells separated by tabs have no quotes.

    Raises:
        InputError: the file does not exist.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the folder of the data sets with --data")
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
        return list(READERS[delimiter](file))


def captions(data: Path, split: str) -> list[list[str]]:
    """Return the groups of five captions of one picture."""
    columns = []
    for i in range(1, CAPTIONS + 1):
        rows = rows_of(data / "multi30k_en" / f"task2.{split}.{i}.en.gz", "\t")
        columns.append([" ".join(row).strip() for row in rows])
    return [list(group) for group in zip(*columns, strict=True)]


def stsb(data: Path, language: str, split: str) -> list[Pair]:
    """Return pairs scored from 0 to 5."""
    rows = rows_of(data / "stsb" / f"stsb-{language}-{split}.csv.gz", ",")
    return [(first, second, float(score)) for first, second, score in rows]


def labelled(rows: Iterable[Sequence[str]], first: int, label: int) -> list[Pair]:
    """Return pairs of the columns ``first`` and the next, labelled 0 or 1.

    Rows with another label or an empty text are skipped, the header included.
    """
    pairs = []
    for row in rows:
        if len(row) <= max(first + 1, label) or row[label].strip() not in LABELS:
            continue
        if row[first].strip() and row[first + 1].strip():
            text = row[first].strip("\ufeff").strip()
            pairs.append((text, row[first + 1].strip(), float(row[label].strip())))
    return pairs


def write_groups(path: Path, groups: Iterable[Sequence[object]]) -> Path:
    """Write groups of texts, or labelled pairs, as JSON lines; return the path."""
    lines = [json.dumps(list(group), ensure_ascii=False) + "\n" for group in groups]
    write_text_atomic(path, "".join(lines))
    return path


def spearman_of(encode: Encode, pairs: Sequence[Pair]) -> float:
    """Return Spearman's rank correlation of cosines with scores; NaN where it is not defined."""
    scores = np.array([score for _, _, score in pairs])
    spearman = correlation(cosines(encode, pairs), scores)
    return math.nan if spearman is None else spearman


def auroc(encode: Encode, pairs: Sequence[Pair]) -> float:
    """Return the probability that a pair labelled 1 has a larger cosine than one labelled 0."""
    is_positive = [label > POSITIVE for _, _, label in pairs]
    return float(roc_auc_score(is_positive, cosines(encode, pairs)))


def recall(
    encode: Encode, groups: Sequence[Sequence[str]], at: Sequence[int] = (1, 10)
) -> dict[str, float]:
    """Return the fraction of first texts with a text of their group among the k nearest.

    The candidates are the other texts of all groups.
    """
    queries = torch.from_numpy(encode([group[0] for group in groups]))
    candidates: list[str] = []
    group_indices: list[int] = []
    for index, group in enumerate(groups):
        candidates += group[1:]
        group_indices += [index] * len(group[1:])
    nearest = torch.tensor(group_indices)[top_k(queries, encode(candidates), max(at))[1]]
    is_hit = nearest == torch.arange(len(groups))[:, None]
    return {f"recall_at_{k}": float(is_hit[:, :k].any(1).double().mean()) for k in at}


def distinct_2(texts: Sequence[str]) -> float:
    """Return the fraction of distinct pairs among all pairs of neighbouring words."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        words = text.split()
        pairs += pairwise(words)
    return len(set(pairs)) / max(len(pairs), 1)


def cosines(encode: Encode, pairs: Sequence[tuple[str, str] | Pair]) -> np.ndarray:
    """Return the cosine of the two texts of each pair."""
    first = encode([pair[0] for pair in pairs])
    second = encode([pair[1] for pair in pairs])
    products: np.ndarray = (first * second).sum(-1)
    return products


def train_once(config: train_similar.Config) -> None:
    """Train a run unless it is finished; resume it if it was interrupted.

    Raises:
        InputError: it was finished with other options.
    """
    if (config.out / "DONE").exists():
        require_same_options(config.out, stored_options(config.out), config.flat())
    else:
        is_begun = (config.out / "config.json").exists()
        train_similar.main(config.change(resume=is_begun))
