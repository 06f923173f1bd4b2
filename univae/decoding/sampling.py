"""Batched generation from any next-token logits: ancestral, tempered, truncated and greedy sampling.

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

from univae.dtypes import computation_dtype
from univae.rules import COUNT, Rule, at_least, check, within
from univae.text.special import END, PAD, START

__all__ = ["Sampling", "Stepper", "generate"]


# the share of rows still running at which the others are dropped; copying a few times costs little
CROWDED = 0.75


@runtime_checkable
class Stepper(Protocol):
    """A model mid-text: takes each row's newest token and returns the logits of the next.

    Keeps its own cache.
    """

    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]: ...

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Row i goes on from the text of row ``rows[i]``.

        Fewer rows than before drop the others.
        """


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn from logits. The defaults draw from the model itself.

    Raises:
        InputError: if temperature or top_k is negative or not finite, or top_p outside (0, 1].
    """

    temperature: float = 1.0  # 0 takes the most probable token
    top_k: int = 0  # only the k most probable tokens; 0 is all
    top_p: float = 1.0  # only the smallest set of tokens that holds this much probability

    RULES: ClassVar[Mapping[str, Rule]] = {
        "temperature": at_least(0, 1e6, "0 (the most probable token) or more"),
        "top_k": at_least(0, COUNT, "0 (all tokens) or more"),
        "top_p": within("(0, 1]", "a share of the probability"),
    }

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
        if self.temperature == 0:
            return logits.argmax(-1)
        if self.temperature != 1:
            logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            # The choice is made among k values, which is faster than over a vocabulary of -inf.
            best, ids = logits.topk(self.top_k)
            return ids.gather(-1, self._draw(best)).squeeze(-1)
        return self._draw(logits).squeeze(-1)

    def _draw(self, logits: Tensor) -> Tensor:
        p = logits.softmax(-1, dtype=computation_dtype(logits))
        return _from_nucleus(p, self.top_p) if self.top_p < 1 else _inverse(p)


def _inverse(p: Tensor) -> Tensor:
    """One uniform a row through the inverse of its distribution function, which costs less than one a token."""
    mass = p.cumsum(-1, dtype=torch.float64)
    u = torch.rand(*mass.shape[:-1], 1, dtype=torch.float64, device=mass.device) * mass[..., -1:]
    return torch.searchsorted(mass, u, right=True).clamp_max(p.shape[-1] - 1)


def _from_nucleus(p: Tensor, mass: float, likely: int = 128) -> Tensor:
    """Draw among the smallest set of the most probable tokens whose probability reaches ``mass``.

    Most rows have that set within the few most probable tokens, and sorting the vocabulary is what
    top-p costs: only rows that need more look further.
    """
    likely = min(likely, p.shape[-1])
    falling, ids = p.topk(likely)
    before = falling.cumsum(-1) - falling
    chosen = ids.gather(-1, _inverse(falling.masked_fill(before >= mass, 0)))
    short = falling.sum(-1) < mass
    if likely < p.shape[-1] and bool(short.any()):
        chosen[short] = _from_nucleus(p[short], mass, 8 * likely)
    return chosen


@torch.no_grad()
def generate(
    step: Stepper,
    rows: int,
    max_length: int,
    sampling: Sampling | None = None,
    *,
    end: int | None = END,
) -> Int[Tensor, "{rows} length"]:
    """Draw ``rows`` texts at once: ids with the end token, padded; cut at ``max_length`` where no end came before.

    Once a quarter of the stepper's rows have ended it goes on without them. ``end=None`` never
    stops early, which makes the number of tokens known beforehand.
    """
    draw = sampling or Sampling()
    device = getattr(step, "device", None)
    tokens = torch.full((rows,), START, device=device)
    texts = torch.full((rows, max_length), PAD, device=device)
    running = torch.ones(rows, dtype=torch.bool, device=device)
    place = torch.arange(rows, device=device)  # of the stepper's rows among the texts
    for t in range(max_length):
        logits = step(tokens)
        if end is None:
            texts[:, t] = tokens = draw(logits)
            continue
        # what has ended draws no more
        tokens = tokens.masked_scatter(running, draw(logits[running]))
        texts[place, t] = tokens * running  # PAD is 0
        running &= tokens != end
        unfinished = int(running.sum())
        if not unfinished:
            return texts[:, : t + 1]
        if unfinished <= CROWDED * len(running):
            kept = running.nonzero()[:, 0]
            step.reorder(kept)
            place = place[kept]
            tokens = tokens[kept]
            running = running[kept]

    return texts
