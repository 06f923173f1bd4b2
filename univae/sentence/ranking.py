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

__all__ = ["Draws", "Key", "Ranked", "count_draws", "distinct", "rank"]

# Maps the tokens of a text to a value that equal texts share; None excludes the text.
Key = Callable[[Sequence[int]], Hashable | None]


class Draws(NamedTuple):
    """Counts of the texts that were generated from a source, by what became of them."""

    generated: int = 0
    incomplete: int = 0  # empty, or without an end
    equal_to_source: int = 0
    excluded: int = 0  # by a key of None
    duplicates: int = 0

    @property
    def candidates(self) -> int:
        """The texts that remain."""
        return self.generated - sum(self[1:])


class Ranked(NamedTuple):
    """Generated texts, padded ids with their end token, and their cosines to the source.

    The texts are in the order of their rank; ``draws`` counts all that were generated.
    """

    ids: Int[Tensor, "k length"]
    scores: Float[Tensor, "k"]
    draws: Draws = Draws()


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


def count_draws(
    texts: Sequence[Sequence[int]], source: Sequence[int], key: Key, incomplete: int
) -> Draws:
    """Return what becomes of generated texts in :func:`distinct`.

    Args:
        texts: the complete texts.
        source: the text that they were generated from.
        key: maps a text to a value that equal texts share; None excludes it.
        incomplete: the number of texts that were empty or without an end.
    """
    keys = [key(text) for text in texts]
    source_key = key(source)
    excluded = keys.count(None)
    equal = 0 if source_key is None else keys.count(source_key)
    others = set(keys) - {None, source_key}
    duplicates = len(keys) - excluded - equal - len(others)
    return Draws(len(texts) + incomplete, incomplete, equal, excluded, duplicates)


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
