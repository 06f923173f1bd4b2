"""Decoders that keep keys and values: of a UniVAE given its latents, and of a Transformer that continues a text.

:class:`Continuation`: the UniLM mask lets the source see itself and nothing else, so its keys and
values do not depend on what follows. One pass over the source serves every sample of every
continuation, and the vector read from it stays what it is.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor

from univae.attention.cache import KeyValueCache
from univae.attention.scaling import Scale
from univae.attention.transformer import Block, Embedding, Head

__all__ = ["Continuation", "Decoder"]


class Continuation:
    """A :class:`univae.decoding.Stepper` behind sources whose keys and values fill the caches.

    The first call returns the logits of the first token, which the end of the source predicts; what
    it is given is ignored. Row b of later calls stands at position ``lengths[b]``, ``lengths[b] +
    1``, ...
    """

    def __init__(
        self,
        parts: tuple[Embedding, Sequence[Block], Head],
        caches: Sequence[KeyValueCache],
        last: Float[Tensor, "batch width"],
        lengths: Int[Tensor, "batch"],
        phase: Complex[Tensor, "positions half"],
    ) -> None:
        """``last`` are the rows at the sources' ends.

        ``phase`` is that of every position one may come to.
        """
        embedding, blocks, head = parts
        self.transform = head.transform
        self.table = embedding.tokens.weight
        self.bias = head.masked_bias()
        self.device = self.table.device
        self.feed = embedding.feed(len(last))
        self.caches = caches
        self.steps = [block.stepper(cache) for block, cache in zip(blocks, caches, strict=True)]
        self.phase = phase
        self.positions = lengths
        self.last: Tensor | None = last

    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]:
        if self.last is not None:
            x = self.last
            self.last = None
            return self._logits(x)
        x = self.feed(tokens)
        phase = self.phase[self.positions][:, None, None]
        for step in self.steps:
            x = step(x, phase)
        self.positions = self.positions + 1
        return self._logits(x)

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Row i goes on from the text of row ``rows[i]``."""
        self.feed.reorder(rows)
        self.positions = self.positions[rows]
        for cache in self.caches:
            cache.reorder(rows)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self.transform(x), self.table, self.bias)


class Decoder:
    """Feeds one token a row and returns the logits of the next; keys and values stay in buffers of a fixed size.

    ``memories`` holds, for each of the last blocks, the row that its latent puts before the text:
    position 0, and the first key of that block's cache. ``phase`` is that of position 0 and of
    every token after it.
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
        self.transform = head.transform
        self.table = embedding.tokens.weight
        self.bias = head.masked_bias()
        self.device = self.table.device
        rows, width = memories[0].shape
        heads = blocks[0].attention.heads
        self.feed = embedding.feed(rows)
        self.phases = phase.unbind(0)
        shape = (rows, heads, len(self.phases), width // heads)
        self.caches = [KeyValueCache(shape, memories[0], scale, base) for _ in blocks]
        self.position = 1
        first = len(blocks) - len(memories)
        for block, cache, memory in zip(blocks[first:], self.caches[first:], memories, strict=True):
            block.remember(memory, self.phases[0], cache)
        self.steps = [
            block.stepper(cache) for block, cache in zip(blocks, self.caches, strict=True)
        ]

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
