r"""RoFormer-Sim: one Transformer that encodes a sentence as a vector and generates similar ones.

Rows are [start, source, end | target], in segments 0 and 1, under the UniLM mask: the source sees
itself, the target the source and its own past. So the vector of a source does not depend on a
target, one pass trains both tasks, and generation reads the source once for all samples.

References:
    SimBERTv2: RoFormer-Sim (Su, 2021), https://kexue.fm/archives/8454
    Unified Language Model Pre-training (Dong et al., 2019), https://arxiv.org/abs/1905.03197
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Inexact, Int
from torch import Tensor, nn

from univae.attention.cache import KeyValueCache
from univae.attention.core import Mix, attend
from univae.attention.masks import padding
from univae.attention.norms import NORMS
from univae.attention.rotary import phases
from univae.attention.transformer import Block, Embedding, Head, initialise
from univae.attention.variant import Variant
from univae.decoding.cached import CachedDecoder, DecoderLayers, filling
from univae.decoding.positions import RowPositions
from univae.decoding.sampling import Sampling
from univae.decoding.sampling import generate as draw_texts
from univae.devices import all_true
from univae.errors import InputError
from univae.sentence.config import RoFormerSimConfig
from univae.sentence.layout import ends, is_real, positions, tokens, unilm_mask
from univae.sentence.losses import CLASSES
from univae.sentence.pooling import POOLINGS
from univae.sentence.ranking import Key, Ranked, count_draws, distinct, rank
from univae.text.padding import pad
from univae.text.special import END, PAD, START

__all__ = ["Ranked", "RoFormerSim", "RoFormerSimConfig"]

# that of the second published version; the first sampled the 5 most probable tokens
NUCLEUS = Sampling(top_p=0.95)


class RoFormerSim(nn.Module):
    """A model of sentence vectors, which also generates similar sentences.

    Texts are ids (B, T): tokens, one end token, padding; the model adds the start token.

    >>> config = RoFormerSimConfig(vocab_size=9, width=8, heads=2, layers=1, max_length=6)
    >>> model = RoFormerSim(config).eval()
    >>> texts = torch.tensor([[5, 6, 2], [7, 2, 0]])
    >>> model.encode(texts).shape
    torch.Size([2, 8])
    >>> [len(ranked.scores) <= 3 for ranked in model.generate(texts, count=3, samples=8)]
    [True, True]
    """

    def __init__(self, config: RoFormerSimConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.mask = c.vocab_size  # the id that hides a token
        # The embedding is normalised under either placement of norms, and the segments are
        # initially equal. Otherwise all rows, and so all vectors, are initially nearly parallel,
        # and separating them takes hundreds of steps.
        variant = Variant.of(c)
        self.embedding = Embedding(c.vocab_size + 1, c.width, c.dropout, "post", variant)
        self.blocks = nn.ModuleList(
            Block(c.width, c.heads, c.dropout, c.norm, variant) for _ in range(c.layers)
        )
        # post-norm rows are normalised already
        self.norm = NORMS[c.norm].output_norm(c.width, variant)
        self.pooler = nn.Linear(c.width, c.width)
        self.classifier = nn.Linear(3 * c.width, CLASSES, bias=False)  # of the supervised stage
        excluded = (PAD, START, self.mask)
        self.head = Head(c.vocab_size + 1, c.width, c.norm, excluded, variant)
        initialise(self)
        nn.init.zeros_(self.embedding.segments.weight)

    def encode(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch width"]:
        """Return the texts' vectors, of length 1: their inner products are cosines."""
        return F.normalize(self.read(ids), dim=-1)

    def read(self, source: Int[Tensor, "batch length"]) -> Float[Tensor, "batch width"]:
        """Return the texts' vectors as the pooler computes them, of any length."""
        real = is_real(source)
        x = self._source_rows(source)
        phase = self._phase[: real.shape[1]][None]
        # without a mask the fused kernels skip work
        mix = self._mix(None if all_true(real) else padding(real))
        for block in self.blocks:
            x = block(x, phase, mix)
        return self._pool(x, real)

    def read_and_write(
        self, source: Int[Tensor, "batch n"], target: Int[Tensor, "batch m"]
    ) -> tuple[Float[Tensor, "batch width"], Float[Tensor, "batch"]]:
        r"""Return :meth:`read` of the sources and :math:`\log p(t \mid s)` of each target, in nats.

        Both come from one pass. A target's tokens and its end token count; a target that is all
        padding has log-likelihood 0.
        """
        real = is_real(source)
        inputs = target[:, :-1]
        source_rows = real.shape[1]
        target_rows = inputs.shape[1]
        x = torch.cat((self._source_rows(source), self.embedding(inputs, 1)), 1)
        phase = self._phase[positions(real, target_rows)]
        mix = self._mix(unilm_mask(real, target_rows))
        for block in self.blocks:
            x = block(x, phase, mix)
        # the rows that predict the target: the end of the source, then the target's own rows
        predicting = torch.cat((ends(x, real)[:, None], x[:, source_rows:]), 1)
        return self._pool(x[:, :source_rows], real), self._log_likelihood(predicting, target)

    def continuation(
        self, source: Int[Tensor, "batch length"], copies: int = 1, capacity: int = 0
    ) -> CachedDecoder:
        """Return a decoder of ``copies`` texts behind each source, next to each other.

        Args:
            source: the texts to continue.
            copies: texts generated behind each source.
            capacity: the most tokens of a text; 0: ``max_length``.
        """
        c = self.config
        real = is_real(source)
        source_rows = real.shape[1]
        capacity = capacity or c.max_length
        x = self._source_rows(source)
        phase = self._phase[:source_rows][None]
        visible = None  # without a mask the fused kernels skip work
        if not all_true(real):
            visible = F.pad(real, (0, capacity), value=True).repeat_interleave(copies, 0)
        shape = (len(source) * copies, c.heads, source_rows + capacity, c.width // c.heads)
        caches = [KeyValueCache(shape, x, c.scale, c.scale_base, visible) for _ in self.blocks]
        mix = self._mix(padding(real))
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, phase, filling(cache, copies, mix))

        layers = DecoderLayers(self.embedding, cast("list[Block]", list(self.blocks)), self.head)
        starts = real.sum(1).repeat_interleave(copies)
        prompt_ends = ends(x, real).repeat_interleave(copies, 0)
        return CachedDecoder(layers, caches, RowPositions(self._phase, starts), prompt_ends)

    @torch.no_grad()
    def draw(
        self, source: Int[Tensor, "batch length"], samples: int, sampling: Sampling = NUCLEUS
    ) -> Int[Tensor, "batch {samples} m"]:
        """Draw ``samples`` texts behind each source: padded ids with the end token.

        A text without an end is cut at ``max_length``.
        """
        step = self.continuation(source, samples)
        texts = draw_texts(step, len(source) * samples, self.config.max_length, sampling)
        return texts.view(len(source), samples, -1)

    @torch.no_grad()
    def generate(
        self,
        ids: Int[Tensor, "batch length"],
        count: int = 20,
        *,
        samples: int = 100,
        sampling: Sampling = NUCLEUS,
        hidden: Bool[Tensor, "batch length"] | None = None,
        key: Key = tuple,
        diversity: float = 0.0,
    ) -> list[Ranked]:
        """Generate texts similar to each source, and return the best ``count`` by cosine.

        Empty texts, texts without an end, duplicates and the source itself are dropped. Call
        :meth:`eval` first: dropout stays active in training mode.

        Args:
            ids: the sources.
            count: the most texts to return for each source.
            samples: texts drawn for each source.
            sampling: the distribution of a token.
            hidden: tokens of the source that are masked during generation, so that they may change;
                the ranking uses the whole source.
            key: maps tokens to a key; texts of equal keys are duplicates, of key None are dropped.
            diversity: see :mod:`univae.sentence.ranking`.
        """
        source = ids
        if hidden is not None:
            source = ids.masked_fill(hidden & (ids != PAD) & (ids != END), self.mask)
        sampled_texts = self.draw(source, samples, sampling)
        vectors = self.encode(ids)
        results = []
        for text, vector, rows in zip(ids, vectors, sampled_texts, strict=True):
            texts = [tokens(row) for row in rows if _is_complete(row)]
            original = tokens(text)
            candidates = [texts[i] for i in distinct(texts, original, key)]
            draws = count_draws(texts, original, key, len(rows) - len(texts))
            ranked = self._ranked(vector, candidates, count, diversity)
            results.append(ranked._replace(draws=draws))
        return results

    def _ranked(
        self, vector: Tensor, texts: list[list[int]], count: int, diversity: float
    ) -> Ranked:
        if not texts:
            no_ids = torch.empty(0, 0, dtype=torch.long, device=vector.device)
            return Ranked(no_ids, vector.new_empty(0))
        padded = pad(texts).to(vector.device)
        order, scores = rank(vector, self.encode(padded), count, diversity)
        return Ranked(padded[order], scores)

    def _source_rows(self, source: Tensor) -> Float[Tensor, "batch rows width"]:
        """Return the embedded rows of [start, source]."""
        longest = self.config.max_length
        if source.shape[1] > longest:
            raise InputError(
                f"RoFormerSim: a text has at most max_length={longest} tokens, its end included; "
                f"got {source.shape[1]}; truncate it"
            )
        rows: Tensor = self.embedding(F.pad(source, (1, 0), value=START), 0)
        return rows

    def _mix(self, mask: Tensor | None) -> Mix:
        c = self.config
        dropout = c.attention_dropout if self.training else 0.0
        return lambda q, k, v: attend(
            q, k, v, mask, scale=c.scale, base=c.scale_base, dropout=dropout
        )

    def _pool(self, rows: Tensor, real: Tensor) -> Float[Tensor, "batch width"]:
        vectors: Tensor = self.pooler(POOLINGS[self.config.pooling].pool(rows, real, self.norm))
        return vectors

    def _log_likelihood(self, rows: Tensor, target: Tensor) -> Float[Tensor, "batch"]:
        table = self.embedding.tokens.weight
        return self.head.target_log_prob(rows, table, target).sum(-1)

    @property
    def _phase(self) -> Inexact[Tensor, "positions half"]:
        c = self.config
        table = self.embedding.tokens.weight
        all_positions = torch.arange(2 * c.max_length + 1, device=table.device)
        return phases(all_positions, c.width // c.heads, c.rotary_base, table.dtype)


def _is_complete(row: Int[Tensor, "length"]) -> bool:
    """Return whether a text is not empty and has an end token."""
    return bool(row[0] != END) and bool((row == END).any())
