r"""From drawn texts to an answer: distinct ones, in the order of their cosine to the source.

With a diversity :math:`\delta` the next text is the one that maximises :math:`(1 - \delta) \cos(x,
c) - \delta \max_{s} \cos(c, s)` over those not chosen, s running over the chosen ones.

References:
    The Use of MMR, Diversity-Based Reranking (Carbonell & Goldstein, 1998),
    https://doi.org/10.1145/290941.291025
"""

from collections.abc import Callable, Hashable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from univae.errors import InputError

__all__ = ["Key", "distinct", "rank"]

# What two texts that count as one have in common, from their tokens; None refuses a text.
Key = Callable[[Sequence[int]], Hashable | None]


def distinct(texts: Sequence[Sequence[int]], source: Sequence[int], key: Key = tuple) -> list[int]:
    """Return the first place of every distinct text that ``key`` does not refuse.

    The source is not among them.
    """
    seen = {key(source), None}
    places = list[int]()
    for place, text in enumerate(texts):
        found = key(text)
        if found not in seen:
            seen.add(found)
            places.append(place)
    return places


def rank(
    source: Float[Tensor, "width"],
    vectors: Float[Tensor, "n width"],
    count: int,
    diversity: float = 0.0,
) -> tuple[Int[Tensor, "k"], Float[Tensor, "k"]]:
    """Return at most ``count`` rows, the best first, and the cosine of each to the source; vectors are of length 1.

    Without diversity the cosines fall; ties keep their order.

    Raises:
        InputError: if ``count`` < 1 or ``diversity`` outside [0, 1).
    """
    if count < 1 or not 0 <= diversity < 1:
        raise InputError(
            f"rank: count >= 1 and 0 <= diversity < 1; got count={count}, diversity={diversity}"
        )
    cosine = vectors @ source
    if diversity == 0:
        order = cosine.argsort(descending=True, stable=True)[:count]
        return order, cosine[order]
    chosen = list[int]()
    closest = torch.zeros_like(cosine)
    left = torch.ones_like(cosine, dtype=torch.bool)
    for _ in range(min(count, len(cosine))):
        gain = (1 - diversity) * cosine - diversity * closest
        best = int(gain.masked_fill(~left, -torch.inf).argmax())
        near = vectors @ vectors[best]
        closest = torch.maximum(closest, near) if chosen else near
        left[best] = False
        chosen.append(best)
    order = torch.tensor(chosen, dtype=torch.long, device=cosine.device)
    return order, cosine[order]
