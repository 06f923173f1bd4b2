"""Batched generation from any next-token logits: ancestral, tempered, truncated or greedy sampling.

References:
    Top-k: Hierarchical Neural Story Generation (Fan et al., 2018), https://arxiv.org/abs/1805.04833
    Top-p: The Curious Case of Neural Text Degeneration (Holtzman et al., 2020),
    https://arxiv.org/abs/1904.09751
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from univae.dtypes import at_least_float32, computation_dtype
from univae.rules import COUNT, Rule, at_least, check, within
from univae.text.special import END, PAD, START

__all__ = ["Sampling", "Stepper", "generate"]

# Ended rows are dropped once the share of the others is at most this; dropping copies the caches.
RUNNING_SHARE = 0.75

# The number of most probable tokens that are searched for a nucleus, and its factor in each further
# search. Sorting the whole vocabulary costs more, and most nuclei are smaller.
NUCLEUS_SEARCH = 128
NUCLEUS_GROWTH = 8


@runtime_checkable
class Stepper(Protocol):
    """Next-token logits during generation, with the state of earlier tokens."""

    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]:
        """Append one token to each row, and return the logits of the next."""
        ...

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Continue the text of row ``rows[i]`` as row i; there may be fewer rows."""


@dataclass(frozen=True)
class Sampling:
    """The distribution of a token by its logits; by default that of the model.

    Raises:
        InputError: temperature or top_k is negative or not finite, or top_p is outside (0, 1].
    """

    temperature: float = 1.0  # divides the logits; 0: always the most probable token
    top_k: int = 0  # draw among the k most probable tokens; 0: all
    # draw among the fewest tokens whose probabilities sum to this; 1: all
    top_p: float = 1.0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "temperature": at_least(0, 1e6, "0 (the most probable token) or more"),
        "top_k": at_least(0, COUNT, "0 (all tokens) or more"),
        "top_p": within("(0, 1]", "a share of the probability"),
    }

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
        """Draw one token a row."""
        if self.temperature == 0:
            return logits.argmax(-1)
        if self.temperature != 1:
            logits = at_least_float32(logits) / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            # a softmax of k values is faster than one of a vocabulary of -inf
            top_logits, ids = logits.topk(self.top_k)
            return ids.gather(-1, self._draw(top_logits)).squeeze(-1)
        return self._draw(logits).squeeze(-1)

    def _draw(self, logits: Tensor) -> Tensor:
        p = logits.softmax(-1, dtype=computation_dtype(logits))
        return _draw_from_nucleus(p, self.top_p) if self.top_p < 1 else _draw_index(p)


@torch.no_grad()
def generate(
    step: Stepper,
    rows: int,
    max_length: int,
    sampling: Sampling | None = None,
    *,
    end: int | None = END,
) -> Int[Tensor, "{rows} length"]:
    """Draw ``rows`` texts at once, as padded ids with the end token.

    Once a quarter of the stepper's rows have ended, it continues without them.

    Args:
        step: the model.
        rows: the number of texts.
        max_length: tokens after which a text is cut, with or without an end.
        sampling: the distribution of a token; by default that of the model.
        end: the token that ends a text; None: all texts have ``max_length`` tokens.
    """
    draw = sampling or Sampling()
    device = getattr(step, "device", None)
    tokens = torch.full((rows,), START, device=device)
    texts = torch.full((rows, max_length), PAD, device=device)
    running = torch.ones(rows, dtype=torch.bool, device=device)
    text_index = torch.arange(rows, device=device)  # of each of the stepper's rows
    for t in range(max_length):
        logits = step(tokens)
        if end is None:
            tokens = draw(logits)
            texts[:, t] = tokens
            continue
        # only running rows draw, so that the random numbers do not depend on ended ones
        tokens = tokens.masked_scatter(running, draw(logits[running]))
        texts[text_index, t] = tokens * running  # PAD is 0
        running &= tokens != end
        unfinished = int(running.sum())
        if not unfinished:
            return texts[:, : t + 1]
        if unfinished <= RUNNING_SHARE * len(running):
            running_rows = running.nonzero()[:, 0]
            step.reorder(running_rows)
            text_index = text_index[running_rows]
            tokens = tokens[running_rows]
            running = running[running_rows]

    return texts


def _draw_index(weights: Tensor) -> Tensor:
    """Draw an index in proportion to the weights of each row, by inverting their cumulative sum.

    One uniform number a row costs less than one a token.
    """
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[..., -1:]
    u = torch.rand(*total.shape, dtype=torch.float64, device=total.device) * total
    return torch.searchsorted(cumulative, u, right=True).clamp_max(weights.shape[-1] - 1)


def _draw_from_nucleus(p: Tensor, mass: float, searched: int = NUCLEUS_SEARCH) -> Tensor:
    """Draw among the fewest most probable tokens whose probabilities sum to ``mass``.

    The search covers the ``searched`` most probable tokens; rows that need more are drawn again.
    """
    searched = min(searched, p.shape[-1])
    descending, ids = p.topk(searched)
    mass_before = descending.cumsum(-1) - descending
    tokens = ids.gather(-1, _draw_index(descending.masked_fill(mass_before >= mass, 0)))
    incomplete = descending.sum(-1) < mass
    if searched < p.shape[-1] and bool(incomplete.any()):
        tokens[incomplete] = _draw_from_nucleus(p[incomplete], mass, NUCLEUS_GROWTH * searched)
    return tokens
