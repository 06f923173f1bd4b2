r"""UniVAE: one Transformer is encoder and decoder of a text VAE, with a latent in each of its last layers.

The dense formulation runs encoder and decoder copies of a text through one stack under a (2n)^2
mask. Here they are two streams with the same outputs: the encoder attends to itself, the decoder is
causal with the latent as its first key. Row 0 of the encoder is *replaced* by the latent, so the
decoder is a function of the latents and its own prefix.

Decoder positions restart after the latent (latent 0, text 1, 2, ...) and the end token alone models
the length, so :math:`p(x \mid z)` is normalised over all texts.

References:
    UniVAE (Su, 2021), https://kexue.fm/archives/8475
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Independent, kl_divergence

from univae.attention.core import require_head_width
from univae.attention.masks import padding
from univae.attention.rotary import phases
from univae.attention.scaling import Scale
from univae.attention.transformer import Block, Embedding, Head, Norm, initialise
from univae.decoding.cached import CachedDecoder, DecoderLayers
from univae.errors import InputError
from univae.latent.families import GaussianHead, VonMisesFisherHead
from univae.latent.gaussian import diagonal_gaussian
from univae.latent.hierarchy import Choose, Layered
from univae.latent.spherical import HypersphericalUniform
from univae.rules import SIZE, Rule, above, at_least, check, within
from univae.text.special import END, PAD, RESERVED, START
from univae.vae.grid import Grid, GridEmbedding
from univae.vae.likelihood import TextLikelihood, text_log_prob
from univae.vae.streams import Streams

__all__ = ["Elbo", "UniVAE", "UniVAEConfig"]


@dataclass(frozen=True)
class UniVAEConfig:
    """The shape of a UniVAE; complete, so that a stored copy rebuilds the model."""

    vocab_size: int
    width: int = 128
    heads: int = 4
    layers: int = 4
    latent_layers: int = 2  # the last layers, each with a latent of its own
    latent_width: int = 16
    latent: Literal["gaussian", "vmf"] = "gaussian"
    kappa: float = 32.0  # vMF concentration of the posterior, fixed, or where learning starts
    learn_kappa: bool = False
    prior: Literal["standard", "learned"] = "standard"
    scale: Scale = "sqrt"
    scale_base: int = 512  # the number of keys at which log_n equals sqrt
    norm: Norm = "pre"
    max_length: int = 64  # tokens of a text, its end token included
    dropout: float = 0.0
    attention_dropout: float = 0.0
    # share of decoder inputs blanked in training, so that the latent is needed
    word_dropout: float = 0.0
    bn_gamma: float = 0.0  # BN-VAE: fixed scale of batch-normalised Gaussian means; 0 is off

    RULES: ClassVar[Mapping[str, Rule]] = {
        "vocab_size": at_least(RESERVED + 1, 10**7),
        "width": at_least(1, SIZE),
        "heads": at_least(1, 1024),
        "layers": at_least(1, 1024),
        "latent_layers": at_least(1, 1024),
        "latent_width": at_least(1, SIZE),
        "kappa": above(0, 1e6),
        "scale_base": at_least(2, 10**9),
        "max_length": at_least(1, 65_536),
        "dropout": within("[0, 1)"),
        "attention_dropout": within("[0, 1)"),
        "word_dropout": within("[0, 1]"),
        "bn_gamma": at_least(0, 1e3, "0 (off) or more"),
    }

    def __post_init__(self) -> None:
        check(self)
        require_head_width(self.width, self.heads)
        if not 1 <= self.latent_layers <= self.layers:
            raise InputError(
                f"UniVAEConfig: latent_layers must lie in 1..layers={self.layers}; "
                f"got latent_layers={self.latent_layers}"
            )
        if self.latent == "vmf" and (self.bn_gamma or self.latent_width < 2):
            raise InputError(
                f"UniVAEConfig: a vmf latent lives on a sphere (latent_width >= 2) and has no mean to batch-normalise; "
                f"got latent_width={self.latent_width}, bn_gamma={self.bn_gamma}"
            )
        if self.latent == "gaussian" and self.learn_kappa:
            raise InputError(
                "UniVAEConfig: learn_kappa belongs to latent='vmf'; got latent='gaussian'"
            )


class Elbo(NamedTuple):
    r"""The terms of :math:`\log p(x) \ge \mathbb{E}_q \log p(x \mid z) - \sum_l \mathrm{KL}_l`, one draw, in nats."""

    # log p(x | z) of the text, summed over its tokens and one end token
    log_likelihood: Float[Tensor, "batch"]
    kl: Float[Tensor, "batch layers"]  # KL(q(z_l | z_<l, x) || p(z_l | z_<l)), exact given z_<l
    # the same per coordinate, for Gaussian latents
    kl_dimensions: Float[Tensor, "batch layers d"] | None = None


class UniVAE(nn.Module):
    """See the module. Texts are ids (B, T): tokens, one end token, padding; latents are (..., B, S, d).

    >>> model = UniVAE(UniVAEConfig(vocab_size=9, width=8, heads=2, layers=2, latent_layers=2, latent_width=3)).eval()
    >>> texts = torch.tensor([[5, 6, 2], [7, 2, 0]])
    >>> z = model.posterior(texts).sample((4,))
    >>> z.shape, model.likelihood(z).log_prob(texts).shape, model.prior().log_prob(z).shape
    (torch.Size([4, 2, 2, 3]), torch.Size([4, 2]), torch.Size([4, 2]))
    """

    def __init__(self, config: UniVAEConfig, grid: Grid | None = None) -> None:
        """With a ``grid`` the texts are pictures: all ``max_length`` cells of it, and no end token."""
        super().__init__()
        self.config = c = config
        self.end = END if grid is None else None
        if grid is not None and grid.cells != c.max_length:
            raise InputError(
                f"UniVAE: a picture fills its grid, so max_length must be {grid.cells}; got max_length={c.max_length}"
            )
        self.embedding = (
            Embedding(c.vocab_size, c.width, c.dropout, c.norm)
            if grid is None
            else GridEmbedding(c.vocab_size, c.width, grid, c.dropout, c.norm)
        )
        self.blocks = nn.ModuleList(
            Block(c.width, c.heads, c.dropout, c.norm) for _ in range(c.layers)
        )
        self.infer = nn.ModuleList(self._posterior_head() for _ in range(c.latent_layers))
        self.inject = nn.ModuleList(
            nn.Linear(c.latent_width, c.width) for _ in range(c.latent_layers)
        )
        learned = c.latent_layers if c.prior == "learned" else 0
        self.expect = nn.ModuleList(self._prior_head() for _ in range(learned))
        self.head = Head(
            c.vocab_size,
            c.width,
            c.norm,
            silent=(PAD, START) if grid is None else (PAD, START, END),
        )
        initialise(self)
        for head in self.expect:
            if isinstance(head, GaussianHead):  # a learned prior starts as the standard one
                nn.init.zeros_(head.linear.weight)

    def _posterior_head(self) -> nn.Module:
        c = self.config
        # post-norm rows are normed already
        norm = nn.LayerNorm(c.width) if c.norm == "pre" else nn.Identity()
        if c.latent == "gaussian":
            return nn.Sequential(norm, GaussianHead(c.width, c.latent_width, c.bn_gamma))
        return nn.Sequential(
            norm, VonMisesFisherHead(c.width, c.latent_width, c.kappa, c.learn_kappa)
        )

    def _prior_head(self) -> nn.Module:
        c = self.config
        if c.latent == "gaussian":
            return GaussianHead(c.width, c.latent_width)
        # nearly uniform at the start
        return VonMisesFisherHead(c.width, c.latent_width, kappa=1.0, learned=True)

    # The three distributions of the model, and the bound.

    def prior(self) -> Distribution:
        r"""Return :math:`p(z)`, event (S, d): the standard one of the family, or the stack's own, fed no text."""
        c = self.config
        shape = Size((c.latent_layers, c.latent_width))
        if c.prior == "learned":
            rows, _ = self._encode(torch.zeros(1, 0, dtype=torch.long, device=self._table.device))
            return Layered(partial(self._climb, rows[0], None, self.expect), Size(), shape)
        standard = _standard(c, self._table)
        return Independent(standard.expand(shape[:1]), 1)

    def posterior(self, ids: Int[Tensor, "batch length"]) -> Layered:
        r"""Return :math:`q(z \mid x) = \prod_l q(z_l \mid z_{<l}, x)`.

        The layers below the latents run once, here.
        """
        rows, real = self._encode(ids)
        shape = Size((self.config.latent_layers, self.config.latent_width))
        return Layered(partial(self._climb, rows, real, self.infer), Size(ids.shape[:1]), shape)

    def likelihood(self, z: Float[Tensor, "*batch layers d"]) -> TextLikelihood:
        r"""Return :math:`p(x \mid z)` over texts.

        The layers below the latents run once for all samples of a text.
        """
        return TextLikelihood(z, self._logits, self.decoder, self.config.max_length, self.end)

    def decoder(
        self, z: Float[Tensor, "batch layers d"], capacity: int | None = None
    ) -> CachedDecoder:
        """Return the step-by-step decoder of ``z``, with room for ``capacity`` tokens.

        It needs no encoder.
        """
        c = self.config
        memories = [
            inject(z_l)
            for inject, z_l in zip(self.inject, z.to(self._table).unbind(-2), strict=True)
        ]
        blocks = cast("list[Block]", list(self.blocks))
        phase = self._phase(0, (capacity or c.max_length) + 1)[0]
        layers = DecoderLayers(self.embedding, blocks, self.head)
        return CachedDecoder.after_memories(layers, memories, phase, c.scale, c.scale_base)

    def elbo(self, ids: Int[Tensor, "batch length"]) -> Elbo:
        """Draw one latent a text and returns both terms of the bound, in nats.

        The two streams run side by side.
        """
        posterior, z, logits = self.two_streams(ids, ids, lambda layer, q: q.rsample())
        pairs = list(zip(posterior, self.prior_conditionals(z), strict=True))
        kl = torch.stack([kl_divergence(q, p) for q, p in pairs], -1)
        dimensions = None
        if self.config.latent == "gaussian":
            dimensions = torch.stack(
                [kl_divergence(*map(_coordinates, pair)) for pair in pairs], -2
            )

        return Elbo(text_log_prob(logits, ids), kl, dimensions)

    def prior_conditionals(self, z: Float[Tensor, "*batch layers d"]) -> Sequence[Distribution]:
        r"""Return :math:`p(z_l \mid z_{<l})` for every layer, given z."""
        prior = self.prior()
        if isinstance(prior, Layered):
            return prior.conditionals(z)
        return [_standard(self.config, self._table)] * self.config.latent_layers

    def resample(
        self, z: Float[Tensor, "*batch layers d"], layers: Collection[int]
    ) -> Float[Tensor, "*batch layers d"]:
        """Draw the named latent layers anew from the prior, each given the layers before it, and keeps the others.

        Raises:
            InputError: if a layer is not one of the model's.
        """
        missing = set(layers) - set(range(self.config.latent_layers))
        if missing:
            raise InputError(
                f"resample: latent layers are 0..{self.config.latent_layers - 1}; got {sorted(missing)}"
            )
        prior = self.prior()
        if isinstance(prior, Layered):
            return prior.resample(z, layers)
        chosen = torch.tensor([layer in layers for layer in range(z.shape[-2])], device=z.device)
        return torch.where(chosen[:, None], prior.sample(z.shape[:-2]), z)

    # The streams. Rows lie as [encoder tokens | row 0 | decoder rows], see univae.vae.streams.

    def two_streams(
        self, ids: Int[Tensor, "batch n"], target: Int[Tensor, "batch m"], choose: Choose
    ) -> tuple[list[Distribution], Float[Tensor, "batch layers d"], Float[Tensor, "batch m vocab"]]:
        """Encode ``ids``, lets ``choose`` pick each latent from its posterior, and teacher-forces ``target``.

        Returns the posterior conditionals, the latents chosen and the logits of every target
        position.
        """
        n = ids.shape[1] + 1
        first = len(self.blocks) - len(self.infer)
        x = torch.cat((self.embedding.read(ids), self._decoder_rows(target)), 1)
        phase = torch.cat((self._encoder_phase(n - 1), self._phase(1, target.shape[1] + 1)), 1)
        streams = self._streams(ids != PAD, n)
        posterior = []
        latents = []
        for block in self.blocks[:first]:
            x = block(x, phase, streams.both)
        for layer, block in enumerate(self.blocks[first:]):
            posterior.append(self.infer[layer](x[:, n - 1]))
            latents.append(choose(layer, posterior[-1]))
            row = self.inject[layer](latents[-1])[:, None]
            if layer == len(self.infer) - 1:  # nobody reads the encoder any more
                x = block(torch.cat((row, x[:, n:]), 1), phase[:, n - 1 :], streams.bridged)
            else:
                x = block(torch.cat((x[:, : n - 1], row, x[:, n:]), 1), phase, streams.both_bridged)

        return posterior, torch.stack(latents, -2), self.head(x, self._table)

    def _encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's rows below the first latent layer, row 0 last, and which of them are real."""
        streams = self._streams(ids != PAD, ids.shape[1] + 1)
        x = self.embedding.read(ids)
        phase = self._encoder_phase(ids.shape[1])
        for block in self.blocks[: -len(self.infer)]:
            x = block(x, phase, streams.encoder)
        return x, ids != PAD

    def _climb(
        self, rows: Tensor, real: Tensor | None, heads: nn.ModuleList, lead: Size, choose: Choose
    ) -> Sequence[Distribution]:
        """From the encoder's rows up, for latents of shape ``lead``.

        The last layer is only read at row 0.
        """
        n = rows.shape[-2]
        conditionals = []
        x = rows.expand(*lead, *rows.shape[-2:])
        if real is not None:
            real = real.expand(*lead, -1).reshape(-1, n - 1)
        streams = self._streams(real, n)
        phase = self._encoder_phase(n - 1)
        for layer, block in enumerate(self.blocks[-len(heads) :]):
            conditionals.append(heads[layer](x[..., -1, :]))
            z = choose(layer, conditionals[-1])
            if layer < len(heads) - 1:
                row = self.inject[layer](z)[..., None, :]
                x = torch.cat((x[..., :-1, :], row), -2).reshape(-1, n, rows.shape[-1])
                x = block(x, phase, streams.encoder).view(*lead, n, -1)

        return conditionals

    def _logits(self, z: Tensor, ids: Tensor) -> Tensor:
        """Teacher-forced logits.

        Layers below the latents see the texts once, layers above every (latent, text).
        """
        lead = torch.broadcast_shapes(z.shape[:-2], ids.shape[:1])
        z = z.expand(*lead, *z.shape[-2:]).flatten(0, -3)
        streams = self._streams(None, 0)
        phase = self._phase(0, ids.shape[1] + 1)
        x = self._decoder_rows(ids)
        for block in self.blocks[: -len(self.infer)]:
            x = block(x, phase[:, 1:], streams.decoder)
        x = x.expand(*lead, *x.shape[1:]).flatten(0, -3)
        for layer, block in enumerate(self.blocks[-len(self.infer) :]):
            row = self.inject[layer](z[:, layer])[:, None]
            x = block(torch.cat((row, x), 1), phase, streams.bridged)

        return self.head(x, self._table).unflatten(0, lead)

    def _decoder_rows(self, ids: Tensor) -> Tensor:
        """The start token, then the text without its last token.

        In training, words are blanked at random.
        """
        inputs = torch.cat((ids.new_full((ids.shape[0], 1), START), ids[:, :-1]), 1)
        if self.training and self.config.word_dropout:
            # No real row ever sees padding, so its embedding is free to mean "a word was here".
            blank = torch.rand(inputs.shape, device=inputs.device) < self.config.word_dropout
            inputs = inputs.masked_fill(blank & (inputs != START), PAD)
        return self.embedding.write(inputs)

    def _phase(self, start: int, stop: int) -> Tensor:
        positions = torch.arange(start, stop, device=self._table.device)
        return phases(positions, self.config.width // self.config.heads, dtype=self._table.dtype)[
            None
        ]

    def _encoder_phase(self, tokens: int) -> Tensor:
        return self._phase(0, tokens + 1).roll(-1, 1)  # row 0 stands last and has position 0

    def _streams(self, real: Tensor | None, encoder_rows: int) -> Streams:
        c = self.config
        mask = None
        if real is not None and not bool(real.all()):  # without a mask the fused kernels skip work
            mask = padding(F.pad(real, (0, 1), value=True))
        return Streams(
            encoder_rows, mask, c.scale, c.scale_base, c.attention_dropout if self.training else 0.0
        )

    @property
    def _table(self) -> Tensor:
        return self.embedding.tokens.weight


def _standard(config: UniVAEConfig, like: Tensor) -> Distribution:
    """One layer's standard prior in at least float32: uniform on the sphere, or the standard normal."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    if config.latent == "vmf":
        return HypersphericalUniform(config.latent_width, dtype=dtype, device=like.device)
    zeros = torch.zeros(config.latent_width, dtype=dtype, device=like.device)
    return diagonal_gaussian(zeros, torch.ones_like(zeros))


def _coordinates(gaussian: Distribution) -> Distribution:
    """The independent one-dimensional normals of a diagonal Gaussian."""
    assert isinstance(gaussian, Independent)
    return gaussian.base_dist
