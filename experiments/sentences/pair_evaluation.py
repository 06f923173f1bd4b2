"""Metrics of a trained sentence model on pairs of a file: rank correlation, AUROC, or retrieval.

Graded labels give Spearman's rank correlation. Two labels give the area under the ROC curve and the
accuracy of the best threshold besides. Pairs without labels give the recall of the second text
among the second texts of all pairs.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

from experiments.data.pairs import Groups, read_groups
from experiments.data.texts import require_rereadable
from experiments.sentences.evaluation import RECALL_RANKS, correlation
from experiments.sentences.notes import sentence_notes
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.sentence.trained import TrainedSimilar
from univae.text.tally import Tally

__all__ = [
    "area_under_roc",
    "best_threshold",
    "evaluate_pairs",
    "pair_ranks",
    "roc_standard_error",
    "spearman_standard_error",
]

FEWEST = 2  # pairs: a rank correlation and a recall compare pairs
BLOCK = 1024  # pairs whose cosines to all second texts are computed at once
TWO = 2


def evaluate_pairs(
    run: TrainedSimilar, path: str, columns: Sequence[str] = (), limit: int = 0
) -> JsonObject:
    """Return the metrics of a model on the pairs of a file, with their standard errors.

    ``spearman`` of labelled pairs, ``auroc`` and ``best_accuracy``, at ``best_threshold``, of pairs
    with two labels, ``recall_at_1`` and ``recall_at_10`` of pairs without labels; ``pairs`` counts
    them, ``cut`` the distinct texts of which the model read only the beginning. A metric that is
    undefined is null. ``notes`` are on lines left out, texts cut, and unknown words.

    Args:
        run: the trained model.
        path: a file of pairs, as of ``train-similar --pairs``.
        columns: names or numbers, from 1, of the columns of two texts and, last, of the label;
            none: recognised.
        limit: the number of pairs, the first of the file; 0: all.

    Raises:
        InputError: the file cannot be read, or has fewer than two pairs.
    """
    require_rereadable("--data", Path(path))
    groups = read_groups(Path(path), columns=columns)
    _require_pairs(groups, path)
    tally = Tally()
    pairs = groups.pairs[: limit or None]
    used, rows = np.unique(pairs, return_inverse=True)
    vectors = run.encode([groups.texts[text] for text in used], tally)
    first, second = vectors[rows.reshape(pairs.shape).T].astype(np.float64)
    notes = [*groups.notes, *sentence_notes(run, path, tally)]
    result: JsonObject = {"data": path, "pairs": len(pairs), "cut": tally.cut}
    if groups.scores is None:
        notes += _group_notes(groups, path)
        result |= _retrieval(first, second, pairs[:, 1])
    else:
        result |= _agreement((first * second).sum(-1), groups.scores[: len(pairs)])
    return {**result, "notes": notes} if notes else result


def spearman_standard_error(correlation: float, count: int) -> float | None:
    r"""Return the standard error of a rank correlation; None for fewer than four pairs.

    Fisher's transform has the standard deviation :math:`\sqrt{(1 + r^2 / 2) / (n - 3)}`, and the
    correlation :math:`(1 - r^2)` times it.

    References:
        Sample size requirements for estimating Pearson, Kendall and Spearman correlations
        (Bonett & Wright, 2000), https://doi.org/10.1007/BF02294183
    """
    if count <= 3:
        return None
    deviation = math.sqrt((1 + correlation**2 / 2) / (count - 3))
    return (1 - correlation**2) * deviation


def area_under_roc(cosines: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive pair has a larger cosine than a negative one.

    Equal cosines count one half. Both kinds must be present.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    rank_sum = rankdata(cosines)[positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def roc_standard_error(area: float, positives: int, negatives: int) -> float:
    """Return the standard error of an area under the ROC curve.

    References:
        The meaning and use of the area under a receiver operating characteristic curve
        (Hanley & McNeil, 1982), https://doi.org/10.1148/radiology.143.1.7063747
    """
    two_positives = area / (2 - area)
    two_negatives = 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (positives - 1) * (two_positives - area**2)
    variance += (negatives - 1) * (two_negatives - area**2)
    return math.sqrt(max(variance, 0.0) / (positives * negatives))


def best_threshold(cosines: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Return the largest accuracy of calling pairs positive from a threshold on, and the threshold.

    The threshold lies in the middle between two cosines; it is infinite where the best rule calls
    all pairs negative.
    """
    order = np.argsort(-cosines, kind="stable")
    descending = cosines[order]
    hits = np.concatenate(([0], np.cumsum(np.where(positive[order], 1, -1))))
    # calling the first k pairs positive is a threshold only where a smaller cosine follows
    is_rule = np.concatenate(([True], descending[:-1] > descending[1:], [True]))
    best = int(np.where(is_rule, hits, -len(cosines) - 1).argmax())
    accuracy = (hits[best] + (~positive).sum()) / len(cosines)
    if best == 0:
        return float(accuracy), math.inf
    below = descending[best] if best < len(descending) else descending[best - 1]
    return float(accuracy), float((descending[best - 1] + below) / 2)


def pair_ranks(first: np.ndarray, second: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Return how many other texts have a cosine to a first text as large as its partner's, (P,).

    Args:
        first: the vectors of the first texts (P, width).
        second: the vectors of the second texts (P, width).
        texts: the number of each second text; pairs with the same one are one candidate.
    """
    distinct, own = np.unique(texts, return_index=True)
    candidates = torch.from_numpy(second[own])
    column = np.searchsorted(distinct, texts)
    ranks = []
    for start in range(0, len(first), BLOCK):
        rows = slice(start, start + BLOCK)
        cosines = torch.from_numpy(first[rows]) @ candidates.T
        partner = cosines.gather(1, torch.from_numpy(column[rows])[:, None])
        ranks.append((~(cosines < partner)).sum(1) - 1)
    return torch.cat(ranks).numpy()


def _agreement(cosines: np.ndarray, scores: np.ndarray) -> JsonObject:
    """Return the rank correlation with labels and, of two labels, AUROC and accuracy."""
    spearman = correlation(cosines, scores)
    result: JsonObject = {"spearman": spearman}
    if spearman is None or math.isnan(spearman):
        reason = "the labels or the cosines are all equal, or a cosine is not finite"
        return {"spearman": None, "spearman_undefined": reason}
    result["spearman_standard_error"] = spearman_standard_error(spearman, len(scores))
    labels = np.unique(scores)
    if len(labels) != TWO:
        return result
    positive = scores == labels[1]
    positives = int(positive.sum())
    area = area_under_roc(cosines, positive)
    accuracy, threshold = best_threshold(cosines, positive)
    return {
        **result,
        "positives": positives,
        "auroc": area,
        "auroc_standard_error": roc_standard_error(area, positives, len(scores) - positives),
        "best_accuracy": accuracy,
        "best_accuracy_standard_error": _share_error(accuracy, len(scores)),
        "best_threshold": threshold if math.isfinite(threshold) else None,
    }


def _retrieval(first: np.ndarray, second: np.ndarray, texts: np.ndarray) -> JsonObject:
    """Return the share of pairs whose second text is among the nearest, for some numbers."""
    ranks = pair_ranks(first, second, texts)
    result: JsonObject = {"candidates": len(np.unique(texts))}
    for limit in RECALL_RANKS:
        recall = float((ranks < limit).mean())
        result[f"recall_at_{limit}"] = recall
        result[f"recall_at_{limit}_standard_error"] = _share_error(recall, len(ranks))
    return result


def _share_error(share: float, count: int) -> float:
    return math.sqrt(share * (1 - share) / count)


def _require_pairs(groups: Groups, path: str) -> None:
    if (np.diff(groups.offsets) < TWO).any():
        raise InputError(f"{path}: a line holds one text; a pair has two")
    if len(groups) < FEWEST:
        raise InputError(f"{path}: {FEWEST} pairs are needed; got {len(groups)}; give more pairs")


def _group_notes(groups: Groups, path: str) -> list[str]:
    """Return a note on groups of more than two texts, of which only two are compared."""
    larger = int((np.diff(groups.offsets) > TWO).sum())
    if not larger:
        return []
    return [
        f"{path}: {larger} of {len(groups)} groups have more than two texts; the first and the "
        "last of a group are compared"
    ]
