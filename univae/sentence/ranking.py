r"""Ranking of generated texts: distinct ones, in the order of their cosine to the source.

With a diversity :math:`\delta` the next text is the one that maximises :math:`(1 - \delta) \cos(x,
c) - \delta \max_{s} \cos(c, s)` over the unranked texts, where s runs over the ranked ones.

References:
    The Use of MMR, Diversity-Based Reranking (Carbonell & Goldstein, 1998),
    https://doi.org/10.1145/290941.291025
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from univae.errors import InputError

__all__ = ["Key", "Ranked", "distinct", "rank"]

# Maps the tokens of a text to a value that equal texts share; None excludes the text.
Key = Callable[[Sequence[int]], Hashable | None]


class Ranked(NamedTuple):
    """Generated texts, padded ids with their end token, and their cosines to the source.

    The texts are in the order of their rank.
    """

    ids: Int[Tensor, "k length"]
    scores: Float[Tensor, "k"]


def distinct(texts: Sequence[Sequence[int]], source: Sequence[int], key: Key = tuple) -> list[int]:
    """Return the index of the first text of every key, without those of the source and of None."""
    keys = {key(source), None}
    indices = list[int]()
    for i, text in enumerate(texts):
        text_key = key(text)
        if text_key not in keys:
            keys.add(text_key)
            indices.append(i)
    return indices


def rank(
    source: Float[Tensor, "width"],
    vectors: Float[Tensor, "n width"],
    count: int,
    diversity: float = 0.0,
) -> tuple[Int[Tensor, "k"], Float[Tensor, "k"]]:
    """Return the indices of at most ``count`` texts, the best first, and their cosines.

    Without diversity the cosines descend; ties keep their order.

    Args:
        source: the source's vector, of length 1.
        vectors: the texts' vectors, of length 1.
        count: the most texts to return.
        diversity: the weight of the similarity to texts that are ranked higher.

    Raises:
        InputError: ``count`` < 1, or ``diversity`` outside [0, 1).
    """
    if count < 1 or not 0 <= diversity < 1:
        raise InputError(
            f"rank: needs count >= 1, 0 <= diversity < 1; got count={count}, diversity={diversity}"
        )
    cosine = vectors @ source
    if diversity == 0:
        order = cosine.argsort(descending=True, stable=True)[:count]
    else:
        order = _marginal_relevance_order(cosine, vectors, count, diversity)
    return order, cosine[order]


def _marginal_relevance_order(
    cosine: Float[Tensor, "n"], vectors: Float[Tensor, "n width"], count: int, diversity: float
) -> Int[Tensor, "k"]:
    order = list[int]()
    redundancy = torch.zeros_like(cosine)  # the largest cosine to a ranked text
    remaining = torch.ones_like(cosine, dtype=torch.bool)
    for _ in range(min(count, len(cosine))):
        gain = (1 - diversity) * cosine - diversity * redundancy
        best = int(gain.masked_fill(~remaining, -torch.inf).argmax())
        similarity = vectors @ vectors[best]
        redundancy = torch.maximum(redundancy, similarity) if order else similarity
        remaining[best] = False
        order.append(best)
    return torch.tensor(order, dtype=torch.long, device=cosine.device)
