"""What the study of English sentences measures of a model: its vectors, and the texts it writes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.studies.minilm import Teacher
from experiments.studies.negation import flips
from experiments.studies.sentences import (
    Encode,
    auroc,
    captions,
    cosines,
    distinct_2,
    recall,
    spearman_of,
    stsb,
)
from experiments.studies.similar_en_texts import negated_questions, questions
from experiments.training.task import reseed
from univae.checkpoint import JsonObject
from univae.decoding.sampling import Sampling
from univae.sentence.tokenizer import normalised
from univae.sentence.trained import TrainedSimilar

__all__ = ["NUCLEI", "generation_measures", "vector_measures"]

# top_p: the published value, and one with which the texts of a small model are better
NUCLEI = (0.95, 0.8)
RESULTS = 5  # texts written for a source
EXAMPLES = 5  # sources whose texts are reported


def vector_measures(data: Path, encode: Encode) -> JsonObject:
    """Return correlations, recall and AUROC of the vectors of ``encode``.

    Choices are made by ``stsb_dev_spearman``; the others are of test sets.
    """
    return {
        "stsb_dev_spearman": spearman_of(encode, stsb(data, "en", "dev")),
        "stsb_test_spearman": spearman_of(encode, stsb(data, "en", "test")),
        **recall(encode, captions(data, "val")),
        "qqp_test_auroc": auroc(encode, questions(data, "test")),
    }


def generation_measures(
    data: Path, run: TrainedSimilar, teacher: Teacher, count: int, top_p: float
) -> JsonObject:
    """Write texts for ``count`` held-out captions and half as many negated questions; measure them.

    The teacher's cosines measure the similarity of a caption and its texts.
    """
    sampling = Sampling(top_p=top_p)
    sources = [group[0] for group in captions(data, "val")[:count]]
    negated = negated_questions(data, count // 2)
    reseed(0, "study")
    written = _similar_texts(run, sources, sampling)
    pairs = _pairs(sources, written)
    cosine = cosines(teacher.encode, pairs)
    next_sources = [*sources[1:], *sources[:1]]  # rotated: no caption is paired with itself
    shuffled = cosines(teacher.encode, list(zip(sources, next_sources, strict=True)))
    negated_texts = _similar_texts(run, negated, sampling)

    copies = [normalised(source, lowercase=run.text.lowercase) == text for source, text in pairs]
    examples = zip(sources[:EXAMPLES], written[:EXAMPLES], strict=True)
    negated_examples = zip(negated[:EXAMPLES], negated_texts[:EXAMPLES], strict=True)
    return {
        "sources": len(sources),
        "results": len(pairs),
        "equal_to_source": sum(copies) / max(len(pairs), 1),
        "distinct_2": distinct_2([text for _, text in pairs]),
        "teacher_cosine_top_5": float(cosine.mean()),
        "teacher_cosine_random_captions": float(shuffled.mean()),
        "negation_flips_captions": _flip_rate(pairs),
        "negation_flips_negated_questions": _flip_rate(_pairs(negated, negated_texts)),
        "examples": [[source, *texts] for source, texts in examples],
        "negated_examples": [[source, *texts] for source, texts in negated_examples],
    }


def _similar_texts(
    run: TrainedSimilar, sources: Sequence[str], sampling: Sampling
) -> list[list[str]]:
    ranked = run.similar(sources, RESULTS, sampling=sampling)
    return [[text for text, _ in results] for results in ranked]


def _pairs(sources: Sequence[str], texts: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    pairs = []
    for source, similar_texts in zip(sources, texts, strict=True):
        pairs += [(source, text) for text in similar_texts]
    return pairs


def _flip_rate(pairs: Sequence[tuple[str, str]]) -> float:
    return float(np.mean([flips(*pair) for pair in pairs]))
