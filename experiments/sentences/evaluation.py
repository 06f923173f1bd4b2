"""Metrics of a sentence model: rank correlation with labels, retrieval, and generation."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import spearmanr

from experiments.data.pairs import Groups
from univae.checkpoint import JsonObject
from univae.sentence.model import RoFormerSim
from univae.sentence.trained import encode_rows
from univae.text.corpus import Corpus
from univae.text.special import PAD

__all__ = ["correlation", "generation", "rank_of_pair", "retrieval", "selection", "spearman"]

ROWS = 64  # pairs whose likelihood is computed at once
RECALL_RANKS = (1, 10)


def spearman(
    model: RoFormerSim, corpus: Corpus, groups: Groups, chosen: np.ndarray | slice
) -> JsonObject:
    """Return Spearman's rank correlation of cosines with labels, over the chosen pairs.

    For several files it is the mean over files; ``spearman_of_files`` holds that of each.
    """
    assert groups.scores is not None
    assert groups.files is not None
    pairs = groups.pairs[chosen]
    scores = groups.scores[chosen]
    files = groups.files[chosen]
    vectors = _vectors(model, corpus, pairs)
    cosines = (vectors[:, 0] * vectors[:, 1]).sum(-1)
    correlations = []
    for file in np.unique(files):
        rows = files == file
        correlations.append(correlation(cosines[rows], scores[rows]))
    return _summary(correlations, len(pairs))


def _summary(correlations: Sequence[float | None], pairs: int) -> JsonObject:
    """Return the mean of the correlations of files, and of which files there is none."""
    defined = [value for value in correlations if value is not None]
    result: JsonObject = {
        "spearman": float(np.mean(defined)) if defined else None,
        "labelled_pairs": pairs,
    }
    undefined = sum(value is None or math.isnan(value) for value in correlations)
    if undefined:
        result["spearman_undefined"] = (
            f"{undefined} of {len(correlations)} files of pairs have no rank correlation: "
            "their labels or their cosines are all equal, or a cosine is NaN"
        )
    if len(correlations) > 1:
        result["spearman_of_files"] = list(correlations)
    return result


def selection(metrics: JsonObject) -> float:
    """Return minus the rank correlation, which is smallest for the best checkpoint.

    It is 0 where the correlation is undefined, because all labels or all cosines are equal.
    """
    value = metrics["spearman"]
    return 0.0 if value is None else -value


def correlation(cosines: np.ndarray, scores: np.ndarray) -> float | None:
    """Return Spearman's rank correlation.

    None where all cosines or all scores are equal, so that there is no order; NaN where one of them
    is not finite.
    """
    if not (np.isfinite(cosines).all() and np.isfinite(scores).all()):
        return math.nan
    if len(cosines) < 2 or np.ptp(cosines) == 0 or np.ptp(scores) == 0:
        return None
    return float(spearmanr(cosines, scores).statistic)


def retrieval(model: RoFormerSim, corpus: Corpus, pairs: np.ndarray) -> JsonObject:
    """Return the share of pairs whose second text is the nearest, or among the ten nearest.

    The candidates for a first text are the second texts of all pairs.
    """
    if not len(pairs):
        return {}
    vectors = _vectors(model, corpus, pairs)
    rank = rank_of_pair(vectors[:, 0] @ vectors[:, 1].T)
    recall = {f"recall_at_{limit}": float((rank < limit).mean()) for limit in RECALL_RANKS}
    return {**recall, "pairs": len(pairs)}


def rank_of_pair(similarities: np.ndarray) -> np.ndarray:
    """Return the rank, from 0, of the diagonal's value in each row of a square matrix.

    Equal values and NaN count as larger.
    """
    diagonal = np.diagonal(similarities)[:, None]
    return (~(similarities < diagonal)).sum(1) - 1


def generation(model: RoFormerSim, corpus: Corpus, pairs: np.ndarray) -> JsonObject:
    """Return the mean negative log-likelihood of second texts given the first, in nats a token."""
    if not len(pairs):
        return {}
    device = next(model.parameters()).device
    nats = 0.0
    tokens = 0
    order = np.argsort(corpus.lengths[pairs].max(1), kind="stable")
    for start in range(0, len(pairs), ROWS):
        rows = pairs[order[start : start + ROWS]]
        source = corpus.gather(rows[:, 0]).to(device)
        target = corpus.gather(rows[:, 1]).to(device)
        nats -= float(model.read_and_write(source, target)[1].sum())
        tokens += int((target != PAD).sum())
    return {"generation_nats_per_token": nats / tokens}


@torch.no_grad()
def _vectors(model: RoFormerSim, corpus: Corpus, pairs: np.ndarray) -> np.ndarray:
    """Return the vectors (P, 2, width) of pairs; every distinct text is encoded once."""
    texts, index = np.unique(pairs, return_inverse=True)
    vectors = encode_rows(model, [corpus[i][:-1].tolist() for i in texts.tolist()])
    return vectors[index.reshape(pairs.shape)]
