"""What a sentence model's validation measures: rank correlation with labels, retrieval, and writing."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from experiments.data.pairs import Groups
from univae.sentence.model import RoFormerSim
from univae.sentence.trained import encode_rows
from univae.text.corpus import Corpus
from univae.text.special import PAD

__all__ = ["correlation", "found_at", "generation", "retrieval", "selection", "spearman"]

ROWS = 64  # pairs written at once


def spearman(
    model: RoFormerSim, corpus: Corpus, groups: Groups, chosen: np.ndarray | slice
) -> dict[str, Any]:
    """Spearman's rank correlation of cosines with labels, over the chosen pairs.

    Of several files, their mean.
    """
    assert groups.scores is not None
    assert groups.files is not None
    pairs = groups.pairs[chosen]
    scores = groups.scores[chosen]
    files = groups.files[chosen]
    vectors = _vectors(model, corpus, pairs)
    cosines = (vectors[:, 0] * vectors[:, 1]).sum(-1)
    each = [correlation(cosines[files == file], scores[files == file]) for file in np.unique(files)]
    defined = [value for value in each if value is not None]
    found: dict[str, Any] = {
        "spearman": float(np.mean(defined)) if defined else None,
        "labelled_pairs": len(pairs),
    }
    undefined = sum(value is None or math.isnan(value) for value in each)
    if undefined:
        why = "their labels or their cosines are all alike, or a cosine is no number"
        found["spearman_undefined"] = (
            f"{undefined} of {len(each)} files of pairs have no rank correlation: {why}"
        )
    return found | ({"spearman_of_files": each} if len(each) > 1 else {})


def selection(found: Mapping[str, Any]) -> float:
    """Return what a validation by rank correlation is judged by: its negative.

    0 where all of a side are alike.
    """
    spearman = found["spearman"]
    return 0.0 if spearman is None else -spearman


def correlation(cosines: np.ndarray, scores: np.ndarray) -> float | None:
    """Return Spearman's rank correlation; None where a side has no two values that differ, NaN where one is no number.

    The two are told apart because a model whose cosines are NaN is broken, and one whose cosines
    agree knows no order.
    """
    if not (np.isfinite(cosines).all() and np.isfinite(scores).all()):
        return math.nan
    if len(cosines) < 2 or np.ptp(cosines) == 0 or np.ptp(scores) == 0:
        return None
    return float(spearmanr(cosines, scores).statistic)


def retrieval(model: RoFormerSim, corpus: Corpus, pairs: np.ndarray) -> dict[str, Any]:
    """The share of pairs whose second text is the nearest, or among the ten nearest, of all second texts."""
    if not len(pairs):
        return {}
    vectors = _vectors(model, corpus, pairs)
    rank = found_at(vectors[:, 0] @ vectors[:, 1].T)
    return {
        "recall_at_1": float((rank < 1).mean()),
        "recall_at_10": float((rank < 10).mean()),
        "pairs": len(pairs),
    }


def found_at(similarities: np.ndarray) -> np.ndarray:
    """Return the rank, from 0, at which each row of a square matrix finds its own column.

    Ties count against it, and so does what is no number.
    """
    own = np.diagonal(similarities)[:, None]
    return (~(similarities < own)).sum(1) - 1


def generation(model: RoFormerSim, corpus: Corpus, pairs: np.ndarray) -> dict[str, Any]:
    """The mean negative log-likelihood of second texts given the first, in nats per token."""
    if not len(pairs):
        return {}
    device = next(model.parameters()).device
    nats = 0.0
    tokens = 0
    order = np.argsort(corpus.lengths[pairs].max(1), kind="stable")
    for start in range(0, len(pairs), ROWS):
        source, target = (
            corpus.gather(pairs[order[start : start + ROWS], side]).to(device) for side in (0, 1)
        )
        nats -= float(model.read_and_write(source, target)[1].sum())
        tokens += int((target != PAD).sum())
    return {"generation_nats_per_token": nats / tokens}


@torch.no_grad()
def _vectors(model: RoFormerSim, corpus: Corpus, pairs: np.ndarray) -> np.ndarray:
    """Vectors (P, 2, width) of pairs; every distinct text is read once."""
    texts, place = np.unique(pairs, return_inverse=True)
    vectors = encode_rows(model, [corpus[i][:-1].tolist() for i in texts.tolist()])
    return vectors[place.reshape(pairs.shape)]
