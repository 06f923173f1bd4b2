"""Incremental decoding: one token a step, with the keys and values of earlier rows in caches.

The caches may hold rows before the first token: a latent's row in each of the last layers (UniVAE),
or a source text (RoFormer-Sim). Under the UniLM mask a source sees only itself, so its keys
and values do not depend on later tokens, and one pass over it serves all texts generated after it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Complex, Float, Int
from torch import Tensor

from univae.attention.cache import KeyValueCache
from univae.attention.core import Mix
from univae.attention.scaling import Scale
from univae.attention.transformer import Block, Embedding, Head
from univae.decoding.positions import Positions, SharedPositions

__all__ = ["CachedDecoder", "DecoderLayers", "filling"]


class DecoderLayers(NamedTuple):
    """The layers of a decoder, in the order in which a row passes them."""

    embedding: Embedding
    blocks: Sequence[Block]
    head: Head


class CachedDecoder:
    """A :class:`univae.decoding.Stepper` with a cache for every block.

    Args:
        layers: the layers of the model.
        caches: one for each block, with the rows before the first token.
        positions: the positions of the tokens.
        prompt_end: the last block's output for the row before the first token, if the caches
            contain that row. The first call then returns its logits and ignores the tokens.
    """

    def __init__(
        self,
        layers: DecoderLayers,
        caches: Sequence[KeyValueCache],
        positions: Positions,
        prompt_end: Float[Tensor, "batch width"] | None = None,
    ) -> None:
        table = layers.embedding.tokens.weight
        self.logits = layers.head.stepper(table)
        self.device = table.device
        self.feed = layers.embedding.feed(len(caches[0].keys))
        self.caches = caches
        self.steps = [
            block.stepper(cache) for block, cache in zip(layers.blocks, caches, strict=True)
        ]
        self.positions = positions
        self.prompt_end = prompt_end

    @classmethod
    def after_memories(
        cls,
        layers: DecoderLayers,
        memories: Sequence[Float[Tensor, "batch width"]],
        phase: Complex[Tensor, "positions half"],
        scale: Scale = "sqrt",
        base: int = 512,
    ) -> "CachedDecoder":
        """Return a decoder whose last blocks have one row each before the first token.

        Args:
            layers: the layers of the model.
            memories: the rows, one for each of the last blocks, at position 0.
            phase: the phase of position 0 and of every token after it.
            scale: of the attention scores.
            base: the number of keys at which the scale ``log_n`` equals ``sqrt``.
        """
        blocks = layers.blocks
        rows, width = memories[0].shape
        heads = blocks[0].attention.heads
        shape = (rows, heads, len(phase), width // heads)
        caches = [KeyValueCache(shape, memories[0], scale, base) for _ in blocks]
        first = len(blocks) - len(memories)
        for block, cache, memory in zip(blocks[first:], caches[first:], memories, strict=True):
            block.append_to_cache(memory, phase[0], cache)
        return cls(layers, caches, SharedPositions(phase, start=1))

    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]:
        """Append one token to each row, and return the logits of the next."""
        if self.prompt_end is not None:
            logits = self.logits(self.prompt_end)
            self.prompt_end = None
            return logits
        x = self.feed(tokens)
        phase = self.positions.next_phase()
        for step in self.steps:
            x = step(x, phase)
        return self.logits(x)

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Continue the text of row ``rows[i]`` as row i."""
        self.feed.reorder(rows)
        self.positions.reorder(rows)
        for cache in self.caches:
            cache.reorder(rows)
        if self.prompt_end is not None:
            self.prompt_end = self.prompt_end[rows]


def filling(cache: KeyValueCache, copies: int, mix: Mix) -> Mix:
    """Return a ``mix`` that also stores ``copies`` of all keys and values in ``cache``."""

    def fill_and_mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cache.fill(k.repeat_interleave(copies, 0), v.repeat_interleave(copies, 0))
        return mix(q, k, v)

    return fill_and_mix
