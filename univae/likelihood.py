r"""The decoder's side of a text model: :math:`p(x \mid z)` as a distribution over texts, and its step-by-step twin."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Size, Tensor
from torch.distributions import Distribution

from univae.attention import KeyValueCache, Scale
from univae.decoding import Stepper, generate
from univae.text import END, PAD
from univae.transformer import Block, Embedding, Head

__all__ = ["Decoder", "TextLikelihood", "text_log_prob"]


def text_log_prob(
    logits: Float[Tensor, "*batch length vocab"], ids: Int[Tensor, "*#batch length"]
) -> Float[Tensor, "*batch"]:
    """Returns the log-probability of each text in nats: its tokens and its end token, and no padding."""
    ids = ids.expand(logits.shape[:-1])
    nll = F.cross_entropy(logits.flatten(0, -2), ids.reshape(-1), ignore_index=PAD, reduction="none")
    return -nll.view(ids.shape).sum(-1)


class TextLikelihood(Distribution):
    r""":math:`p(x \mid z) = \prod_t p(x_t \mid z, x_{<t})` over texts of every length, the last token the end token.

    ``logits(z, ids)`` teacher-forces texts; ``step(z)`` returns a fresh :class:`Stepper`. Both broadcast: ids (B, T)
    against latents (..., B, S, d). With ``end=None`` the texts have ``max_length`` tokens and no end token.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        z: Float[Tensor, "*batch layers d"],
        logits: Callable[[Tensor, Tensor], Tensor],
        step: Callable[[Tensor], Stepper],
        max_length: int,
        end: int | None = END,
    ) -> None:
        self.z, self.step, self.max_length, self.end = z, step, max_length, end
        self._logits = logits
        super().__init__(z.shape[:-2], Size(), validate_args=False)

    def logits(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "*sample length vocab"]:
        r"""Returns unnormalised :math:`\log p(x_t = \cdot \mid z, x_{<t})` for every position of the padded texts."""
        return self._logits(self.z, ids)

    def log_prob(self, value: Int[Tensor, "batch length"]) -> Float[Tensor, "*sample"]:
        return text_log_prob(self.logits(value), value)

    def sample(self, sample_shape: Sequence[int] = Size()) -> Int[Tensor, "*sample length"]:
        """Draws texts token by token, padded, cut at the model's maximal length if no end token came before."""
        z = self.z.expand(*sample_shape, *self.z.shape)
        with torch.no_grad():
            ids = generate(self.step(z.flatten(0, -3)), z.shape[:-2].numel(), self.max_length, end=self.end)
        return ids.view(*z.shape[:-2], -1)


class Decoder:
    """Feeds one token a row and returns the logits of the next; keys and values stay in buffers of a fixed size.

    ``memories`` holds, for each of the last blocks, the row that its latent puts before the text: position 0, and the
    first key of that block's cache. ``phase`` is that of position 0 and of every token after it.
    """

    def __init__(
        self,
        embedding: Embedding,
        blocks: Sequence[Block],
        head: Head,
        memories: Sequence[Float[Tensor, "batch width"]],
        phase: Complex[Tensor, "positions half"],
        scale: Scale = "sqrt",
        base: int = 512,
    ) -> None:
        self.transform, self.table, self.bias = head.transform, embedding.tokens.weight, head.heard()
        self.device = self.table.device
        rows, width = memories[0].shape
        heads = blocks[0].attention.heads
        self.feed, self.phases = embedding.feed(rows), phase.unbind(0)
        shape = (rows, heads, len(self.phases), width // heads)
        self.caches = [KeyValueCache(shape, memories[0], scale, base) for _ in blocks]
        self.position = 1
        first = len(blocks) - len(memories)
        for block, cache, memory in zip(blocks[first:], self.caches[first:], memories, strict=True):
            block.remember(memory, self.phases[0], cache)
        self.steps = [block.stepper(cache) for block, cache in zip(blocks, self.caches, strict=True)]

    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]:
        x = self.feed(tokens)
        phase = self.phases[self.position]
        for step in self.steps:
            x = step(x, phase)
        self.position += 1
        return F.linear(self.transform(x), self.table, self.bias)

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Row i goes on from the text of row ``rows[i]``."""
        self.feed.reorder(rows)
        for cache in self.caches:
            cache.reorder(rows)
