"""What the studies of sentence models read and measure: captions, question pairs, scored pairs; correlations, recall.

A folder of data holds ``multi30k_en``, ``qqp_20k``, ``tatoeba_cmn_eng``, ``stsb``, ``atec``,
``lcqmc`` and ``bq_corpus``, the files named as published, gzipped.
"""

import csv
import gzip
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from experiments import train_similar
from experiments.sentences.evaluation import correlation
from univae.checkpoint import write_text_atomic
from univae.errors import InputError
from univae.sentence.nearest import top_k

__all__ = [
    "Encode",
    "auroc",
    "captions",
    "cosines",
    "distinct_2",
    "flips",
    "labelled",
    "recall",
    "rows_of",
    "spearman_of",
    "stsb",
    "train_once",
    "write_groups",
]

Encode = Callable[[Sequence[str]], np.ndarray]  # texts to vectors (N, width) of length 1
Pair = tuple[str, str, float]
NEGATION = re.compile(
    r"\b(?:not|no|never|nobody|nothing|none|without|neither|nor|cannot)\b|n['’]t\b", re.IGNORECASE
)


def rows_of(path: Path, delimiter: str) -> list[list[str]]:
    """The rows of a gzipped table; tabs part without quotes."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the folder of the data sets with --data")
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
        if delimiter == "\t":
            return [line.rstrip("\r\n").split("\t") for line in file]
        return list(csv.reader(file, delimiter=delimiter))


def captions(data: Path, part: str) -> list[list[str]]:
    """Group of five captions of one picture."""
    files = [rows_of(data / "multi30k_en" / f"task2.{part}.{i}.en.gz", "\t") for i in range(1, 6)]
    return [[" ".join(row).strip() for row in rows] for rows in zip(*files, strict=True)]


def stsb(data: Path, language: str, part: str) -> list[Pair]:
    """Pairs scored from 0 to 5."""
    return [
        (a, b, float(score))
        for a, b, score in rows_of(data / "stsb" / f"stsb-{language}-{part}.csv.gz", ",")
    ]


def labelled(rows: Iterable[Sequence[str]], first: int, label: int) -> list[Pair]:
    """Pairs of the columns ``first`` and the next, labelled 0 or 1.

    Rows with another label or no text are headers.
    """
    return [
        (row[first].strip("\ufeff").strip(), row[first + 1].strip(), float(row[label].strip()))
        for row in rows
        if len(row) > max(first + 1, label)
        and row[label].strip() in ("0", "1")
        and row[first].strip()
        and row[first + 1].strip()
    ]


def write_groups(path: Path, groups: Iterable[Sequence[Any]]) -> Path:
    """Group, or labelled pairs, as JSON lines."""
    write_text_atomic(
        path, "".join(json.dumps(list(group), ensure_ascii=False) + "\n" for group in groups)
    )
    return path


def spearman_of(encode: Encode, pairs: Sequence[Pair]) -> float:
    """Return Spearman's rank correlation of cosines with scores; NaN where it is not defined."""
    found = correlation(cosines(encode, pairs), np.array([score for _, _, score in pairs]))
    return math.nan if found is None else found


def auroc(encode: Encode, pairs: Sequence[Pair]) -> float:
    """How well cosines tell pairs labelled 1 from those labelled 0."""
    return float(roc_auc_score([label > 0.5 for _, _, label in pairs], cosines(encode, pairs)))


def recall(
    encode: Encode, groups: Sequence[Sequence[str]], at: Sequence[int] = (1, 10)
) -> dict[str, float]:
    """The share of first texts that find one of their group among the nearest of all groups' other texts."""
    queries = torch.from_numpy(encode([group[0] for group in groups]))
    others = [(text, i) for i, group in enumerate(groups) for text in group[1:]]
    owner = torch.tensor([i for _, i in others])
    nearest = owner[top_k(queries, encode([text for text, _ in others]), max(at))[1]]
    hit = nearest == torch.arange(len(groups))[:, None]
    return {f"recall_at_{k}": float(hit[:, :k].any(1).double().mean()) for k in at}


def distinct_2(texts: Sequence[str]) -> float:
    """Distinct pairs of neighbouring words over all such pairs."""
    pairs = [pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)]
    return len(set(pairs)) / max(len(pairs), 1)


def flips(source: str, text: str) -> bool:
    """Whether one of two English texts has a negation and the other has none."""
    return bool(NEGATION.search(source)) != bool(NEGATION.search(text))


def cosines(encode: Encode, pairs: Sequence[Sequence[Any]]) -> np.ndarray:
    """The cosine of the first two of each row."""
    a, b = (encode([pair[side] for pair in pairs]) for side in (0, 1))
    return (a * b).sum(-1)


def train_once(config: train_similar.Config) -> None:
    """Train a run; one that is done stays, one that was interrupted goes on."""
    if not (config.out / "DONE").exists():
        begun = (config.out / "config.json").exists()
        train_similar.main(config.change(resume=begun))
