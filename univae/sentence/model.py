r"""RoFormer-Sim: one Transformer that reads a sentence as a vector, writes similar ones, and ranks them by its vectors.

Rows lie as [start, source, end | target], segment 0 and 1, under the UniLM mask: the source sees itself, the target the
source and its own past. So the vector of a source is the same whether or not a target follows, one pass trains both
tasks, and generation reads the source once for all samples. Positions go on across the border.

The published vector is a linear map of the first row (no tanh), of a model that was pre-trained;
from random weights the mean of the source's rows, which is the default here, learns sooner. Where
sources of a batch differ in length, padding stands between source and target, hidden from all, and
the target's positions follow its own source's.

References:
    SimBERTv2: RoFormer-Sim (Su, 2021), https://kexue.fm/archives/8454
    Unified Language Model Pre-training (Dong et al., 2019), https://arxiv.org/abs/1905.03197
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from univae.attention.cache import KeyValueCache
from univae.attention.core import Mix, attend, require_head_width
from univae.attention.masks import padding, prefix
from univae.attention.norms import NORMS, Norm
from univae.attention.rotary import phases
from univae.attention.scaling import Scale
from univae.attention.transformer import Block, Embedding, Head, initialise
from univae.decoding.cached import Continuation
from univae.decoding.sampling import Sampling
from univae.decoding.sampling import generate as draw_texts
from univae.dtypes import at_least_float32
from univae.errors import InputError
from univae.rules import SIZE, Rule, at_least, check, within
from univae.sentence.losses import CLASSES
from univae.sentence.ranking import Key, distinct, rank
from univae.text.special import END, PAD, RESERVED, START
from univae.text.tokenizers import pad

__all__ = ["Ranked", "RoFormerSim", "RoFormerSimConfig"]

NUCLEUS = Sampling(top_p=0.95)  # of the second version; the first drew among the 5 most probable


@dataclass(frozen=True)
class RoFormerSimConfig:
    """The shape of a RoFormer-Sim; complete, so that a stored copy rebuilds the model."""

    vocab_size: int  # ids of the tokenizer; the model has one more, the mask
    width: int = 256
    heads: int = 4
    layers: int = 4
    max_length: int = 64  # tokens of a side, its end token included
    dropout: float = 0.0
    attention_dropout: float = 0.0
    scale: Scale = "sqrt"
    scale_base: int = 512  # the number of keys at which log_n equals sqrt
    norm: Norm = "pre"
    # of the rows a vector is read from; first: as published
    pooling: Literal["first", "mean"] = "mean"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "vocab_size": at_least(RESERVED + 1, 10**7),
        "width": at_least(1, SIZE),
        "heads": at_least(1, 1024),
        "layers": at_least(1, 1024),
        "scale_base": at_least(2, 10**9),
        "max_length": at_least(2, 65_536, "at least 2, a token and the end of its side"),
        "dropout": within("[0, 1)"),
        "attention_dropout": within("[0, 1)"),
    }

    def __post_init__(self) -> None:
        check(self)
        require_head_width(self.width, self.heads)


class Ranked(NamedTuple):
    """Generated texts, padded ids with their end token, the most similar first, and their cosine to the source."""

    ids: Int[Tensor, "k length"]
    scores: Float[Tensor, "k"]


class RoFormerSim(nn.Module):
    """See the module. Texts are ids (B, T): tokens, one end token, padding; the model adds the start by itself.

    >>> model = RoFormerSim(RoFormerSimConfig(vocab_size=9, width=8, heads=2, layers=1, max_length=6)).eval()
    >>> texts = torch.tensor([[5, 6, 2], [7, 2, 0]])
    >>> model.encode(texts).shape
    torch.Size([2, 8])
    >>> [len(found.scores) <= 3 for found in model.generate(texts, count=3, samples=8)]
    [True, True]
    """

    def __init__(self, config: RoFormerSimConfig) -> None:
        super().__init__()
        self.config = c = config
        self.mask = c.vocab_size  # the id that hides a token
        # Normed in either layout, with segments that start as one: else all rows begin nearly
        # parallel to what they share, all vectors too, and telling them apart takes hundreds of
        # steps.
        self.embedding = Embedding(c.vocab_size + 1, c.width, c.dropout, norm="post")
        self.blocks = nn.ModuleList(
            Block(c.width, c.heads, c.dropout, c.norm) for _ in range(c.layers)
        )
        # post-norm rows are normed already
        self.norm = NORMS[c.norm].output_norm(c.width)
        self.pooler = nn.Linear(c.width, c.width)
        self.classifier = nn.Linear(3 * c.width, CLASSES, bias=False)  # of the supervised stage
        self.head = Head(c.vocab_size + 1, c.width, c.norm, excluded=(PAD, START, self.mask))
        initialise(self)
        nn.init.zeros_(self.embedding.segments.weight)

    # Vectors.

    def encode(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch width"]:
        """Return the texts' vectors, of length 1: their products are cosines."""
        return F.normalize(self.read(ids), dim=-1)

    def read(self, source: Int[Tensor, "batch length"]) -> Float[Tensor, "batch width"]:
        """Return the texts' vectors as the pooler makes them."""
        real = _real(source)
        x = self._source_rows(source)
        phase = self._phase[: real.shape[1]][None]
        mix = self._mix(None if bool(real.all()) else padding(real))
        for block in self.blocks:
            x = block(x, phase, mix)
        return self._pool(x, real)

    def read_and_write(
        self, source: Int[Tensor, "batch n"], target: Int[Tensor, "batch m"]
    ) -> tuple[Float[Tensor, "batch width"], Float[Tensor, "batch"]]:
        r"""Return :meth:`read` of the sources and :math:`\log p(t \mid s)` of each target, in nats, in one pass.

        A target's tokens and its end token count; a target that is all padding has log-likelihood
        0.
        """
        real = _real(source)
        inputs = target[:, :-1]
        n = real.shape[1]
        m = inputs.shape[1]
        x = torch.cat((self._source_rows(source), self.embedding(inputs, 1)), 1)
        after = real.sum(1, keepdim=True) + torch.arange(m, device=source.device)
        ahead = torch.arange(n, device=source.device).expand(len(source), n)
        phase = self._phase[torch.cat((ahead, after), 1)]
        segments = (torch.arange(n + m, device=source.device) >= n).long()[None]
        mask = prefix(segments)
        if not bool(real.all()):
            mask = mask & padding(F.pad(real, (0, m), value=True))
        mix = self._mix(mask)
        for block in self.blocks:
            x = block(x, phase, mix)
        ends = x[torch.arange(len(x), device=x.device), real.sum(1) - 1]
        writing = torch.cat((ends[:, None], x[:, n:]), 1)
        return self._pool(x[:, :n], real), self._log_likelihood(writing, target)

    # Generation.

    def continuation(
        self, source: Int[Tensor, "batch length"], copies: int = 1, capacity: int = 0
    ) -> Continuation:
        """Return what writes ``copies`` texts behind each source, side by side, of at most ``capacity`` tokens."""
        c = self.config
        real = _real(source)
        n = real.shape[1]
        capacity = capacity or c.max_length
        x = self._source_rows(source)
        phase = self._phase[:n][None]
        seen = padding(real)
        places = None  # without a mask the fused kernels skip work
        if not bool(real.all()):
            places = F.pad(real, (0, capacity), value=True).repeat_interleave(copies, 0)
        shape = (len(source) * copies, c.heads, n + capacity, c.width // c.heads)
        caches = [KeyValueCache(shape, x, c.scale, c.scale_base, places) for _ in self.blocks]
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, phase, _remembering(cache, copies, self._mix(seen)))
        lengths = real.sum(1)
        ends = x[torch.arange(len(x), device=x.device), lengths - 1].repeat_interleave(copies, 0)
        parts = (self.embedding, cast("list[Block]", list(self.blocks)), self.head)
        return Continuation(parts, caches, ends, lengths.repeat_interleave(copies), self._phase)

    @torch.no_grad()
    def draw(
        self, source: Int[Tensor, "batch length"], samples: int, sampling: Sampling = NUCLEUS
    ) -> Int[Tensor, "batch {samples} m"]:
        """Draw ``samples`` texts behind each source: ids with the end token, padded, cut at the model's length."""
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
        """Write texts similar to each source and returns the best ``count``, ranked by the model's own cosine.

        Of ``samples`` draws the empty, those without an end, duplicates and the source itself are
        dropped: texts are the same if ``key`` says so, and one for which it returns None is
        refused. ``hidden`` masks tokens of the source before it is continued, which asks for change
        there; ranking sees the whole source. ``diversity``: see :mod:`univae.sentence.ranking`.
        Generates as it is, so call :meth:`eval` first.
        """
        source = (
            ids
            if hidden is None
            else ids.masked_fill(hidden & (ids != PAD) & (ids != END), self.mask)
        )
        drawn = self.draw(source, samples, sampling)
        vectors = self.encode(ids)
        found = []
        for text, vector, texts in zip(ids, vectors, drawn, strict=True):
            ended = [_tokens(row) for row in texts if row[0] != END and bool((row == END).any())]
            chosen = [ended[place] for place in distinct(ended, _tokens(text), key)]
            found.append(self._ranked(vector, chosen, count, diversity))
        return found

    def _ranked(
        self, vector: Tensor, texts: list[list[int]], count: int, diversity: float
    ) -> Ranked:
        if not texts:
            return Ranked(
                torch.empty(0, 0, dtype=torch.long, device=vector.device), vector.new_empty(0)
            )
        padded = pad(texts).to(vector.device)
        order, scores = rank(vector, self.encode(padded), count, diversity)
        return Ranked(padded[order], scores)

    # The rows.

    def _source_rows(self, source: Tensor) -> Tensor:
        if source.shape[1] > self.config.max_length:
            raise InputError(
                f"RoFormerSim: a side has at most max_length={self.config.max_length} tokens, its end included; "
                f"got {source.shape[1]}; cut it"
            )
        return self.embedding(F.pad(source, (1, 0), value=START), 0)

    def _mix(self, mask: Tensor | None) -> Mix:
        c = self.config
        dropout = self.config.attention_dropout if self.training else 0.0
        return lambda q, k, v: attend(
            q, k, v, mask, scale=c.scale, base=c.scale_base, dropout=dropout
        )

    def _pool(self, rows: Tensor, real: Tensor) -> Tensor:
        if self.config.pooling == "first":
            return self.pooler(self.norm(rows[:, 0]))
        weights = (real / real.sum(1, keepdim=True)).to(rows)
        return self.pooler((weights[:, None] @ self.norm(rows)).squeeze(1))

    def _log_likelihood(self, rows: Tensor, target: Tensor) -> Tensor:
        # Only the rows of real tokens meet the vocabulary: its table is what writing costs.
        real = target != PAD
        logits = self.head(rows[real], self.embedding.tokens.weight)
        nll = F.cross_entropy(logits, target[real], reduction="none")
        # a sum over a text is not one for bfloat16
        nll = at_least_float32(nll)
        texts = real.nonzero()[:, 0]
        return -nll.new_zeros(len(target)).index_add(0, texts, nll)

    @property
    def _phase(self) -> Tensor:
        table = self.embedding.tokens.weight
        positions = torch.arange(2 * self.config.max_length + 1, device=table.device)
        return phases(positions, self.config.width // self.config.heads, dtype=table.dtype)


def _remembering(cache: KeyValueCache, copies: int, mix: Mix) -> Mix:
    def remember(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cache.fill(k.repeat_interleave(copies, 0), v.repeat_interleave(copies, 0))
        return mix(q, k, v)

    return remember


def _real(source: Tensor) -> Bool[Tensor, "batch rows"]:
    """Which rows of a source, its start included, are no padding."""
    return F.pad(source != PAD, (1, 0), value=True)


def _tokens(row: Tensor) -> list[int]:
    """A text's tokens, without its end and padding."""
    listed = row.tolist()
    return (
        listed[: listed.index(END)]
        if END in listed
        else [token for token in listed if token != PAD]
    )
