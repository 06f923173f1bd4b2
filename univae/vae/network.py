r"""The Transformer of a UniVAE, as encoder stream, decoder stream, or both side by side.

The dense formulation runs encoder and decoder copies of a text through one stack under a (2n)^2
mask. Here they are two streams with the same outputs: the encoder attends to itself, the decoder is
causal with the latent as its first key. Row 0 of the encoder is *replaced* by the latent, so that
the decoder is a function of the latents and its prefix.

Rows lie as [encoder tokens | row 0 | decoder rows], see :mod:`univae.vae.streams`. Decoder
positions restart after the latent: the latent is at 0, the text at 1, 2, ...
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from univae.attention.adaptive_head import SOFTMAXES
from univae.attention.masks import padding
from univae.attention.norms import NORMS
from univae.attention.rotary import phases
from univae.attention.transformer import Block, Embedding, initialise
from univae.attention.variant import Variant
from univae.devices import all_true
from univae.errors import InputError
from univae.latent.hierarchy import Choose
from univae.text.special import END, PAD, START
from univae.vae.config import UniVAEConfig
from univae.vae.grid import Grid, GridEmbedding
from univae.vae.streams import Streams

__all__ = ["TwoStreamTransformer"]

# Maps (row of the encoder, layer) to the distribution of the layer's latent.
RowHead: TypeAlias = Callable[[Tensor], Distribution]


class TwoStreamTransformer(nn.Module):
    """A Transformer that encodes and decodes texts, with a latent in each of its last layers.

    With a ``grid`` the texts are images: ``max_length`` cells of it, and no end token.
    """

    def __init__(self, config: UniVAEConfig, grid: Grid | None = None) -> None:
        super().__init__()
        self.config = config
        self.end = END if grid is None else None
        self.embedding = _embedding(config, grid)
        variant = Variant.of(config)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.dropout, config.norm, variant)
            for _ in range(config.layers)
        )
        self.infer = nn.ModuleList(_posterior_head(config) for _ in range(config.latent_layers))
        self.inject = nn.ModuleList(
            nn.Linear(config.latent_width, config.width) for _ in range(config.latent_layers)
        )
        learned = config.latent_layers if config.learned_prior else 0
        self.expect = nn.ModuleList(config.family.prior_head(config) for _ in range(learned))
        excluded = (PAD, START) if grid is None else (PAD, START, END)
        build_head = SOFTMAXES[config.softmax].head
        self.head = build_head(config.vocab_size, config.width, config.norm, excluded, variant)

        initialise(self)
        self.head.initialise()
        for head in self.expect:
            config.family.initialise_prior(head)

    def two_streams(
        self, ids: Int[Tensor, "batch n"], target: Int[Tensor, "batch m"], choose: Choose
    ) -> tuple[list[Distribution], Float[Tensor, "batch layers d"], Float[Tensor, "batch m vocab"]]:
        """Encode ``ids`` and teacher-force ``target``; ``choose`` gives each latent.

        Returns the posterior conditionals, the latents, and the logits of every target position.
        """
        posterior, latents, x = self._two_stream_rows(ids, target, choose)
        return posterior, latents, self.head(x, self._table)

    def _two_stream_rows(
        self, ids: Tensor, target: Tensor, choose: Choose
    ) -> tuple[list[Distribution], Tensor, Tensor]:
        """Return the result of :meth:`two_streams` with the rows before the head for the logits."""
        n = ids.shape[1] + 1
        x = torch.cat((self.embedding.encoder_rows(ids), self._decoder_rows(target)), 1)
        phase = torch.cat((self._encoder_phase(n - 1), self._phase(1, target.shape[1] + 1)), 1)
        streams = self._streams(ids != PAD, n)
        for block in self._lower_blocks():
            x = block(x, phase, streams.both)

        posterior = []
        latents = []
        for layer, block in enumerate(self._latent_blocks()):
            posterior.append(self.infer[layer](x[:, n - 1]))
            latents.append(choose(layer, posterior[-1]))
            row = self._injected(layer, latents[-1])[:, None]
            if layer == len(self.infer) - 1:  # no later layer reads the encoder's rows
                x = block(torch.cat((row, x[:, n:]), 1), phase[:, n - 1 :], streams.bridged)
            else:
                x = block(torch.cat((x[:, : n - 1], row, x[:, n:]), 1), phase, streams.both_bridged)
        return posterior, torch.stack(latents, -2), x

    @property
    def _table(self) -> Float[Tensor, "vocab width"]:
        """The table of tokens, whose dtype and device are those of the model."""
        return self.embedding.tokens.weight

    def _encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's rows below the first latent layer, and a mask of real tokens."""
        streams = self._streams(ids != PAD, ids.shape[1] + 1)
        x = self.embedding.encoder_rows(ids)
        phase = self._encoder_phase(ids.shape[1])
        for block in self._lower_blocks():
            x = block(x, phase, streams.encoder)
        return x, ids != PAD

    def _climb(
        self, rows: Tensor, real: Tensor | None, heads: nn.ModuleList, lead: Size, choose: Choose
    ) -> None:
        """Call ``choose`` for every latent layer, from the encoder's rows upward.

        Latents have leading shape ``lead``. Only row 0 of the last layer is used, so that its
        block is not evaluated.
        """
        n = rows.shape[-2]
        x = rows.expand(*lead, *rows.shape[-2:])
        if real is not None:
            real = real.expand(*lead, -1).reshape(-1, n - 1)
        streams = self._streams(real, n)
        phase = self._encoder_phase(n - 1)
        for layer, block in enumerate(self.blocks[-len(heads) :]):
            z = choose(layer, heads[layer](x[..., -1, :]))
            if layer < len(heads) - 1:
                row = self._injected(layer, z)[..., None, :]
                x = torch.cat((x[..., :-1, :], row), -2).reshape(-1, n, rows.shape[-1])
                x = block(x, phase, streams.encoder).view(*lead, n, -1)

    def token_log_prob(
        self, z: Float[Tensor, "*batch layers d"], ids: Int[Tensor, "texts length"]
    ) -> Float[Tensor, "*sample length"]:
        r"""Return :math:`\log p(x_t \mid z, x_{<t})` of every token of padded texts, 0 of padding.

        The sum over a text is ``likelihood(z).log_prob(ids)`` up to rounding. With
        ``softmax="adaptive"`` a token computes the logits of its own class alone; how its sum is
        rounded then depends on the texts beside it.
        """
        x, lead = self._decoded_rows(z, ids)
        targets = ids.expand(*lead, -1).flatten(0, -2)
        log_prob: Tensor = self.head.target_log_prob(x, self._table, targets).unflatten(0, lead)
        return log_prob

    def _logits(self, z: Tensor, ids: Tensor) -> Tensor:
        """Return teacher-forced logits of texts given latents."""
        x, lead = self._decoded_rows(z, ids)
        logits: Tensor = self.head(x, self._table).unflatten(0, lead)
        return logits

    def _decoded_rows(self, z: Tensor, ids: Tensor) -> tuple[Tensor, Size]:
        """Return the rows before the head, and the leading shape that their first axis flattens.

        Layers below the latents are evaluated once per text, layers above for every (latent, text).
        """
        lead = torch.broadcast_shapes(z.shape[:-2], ids.shape[:1])
        z = z.expand(*lead, *z.shape[-2:]).flatten(0, -3)
        streams = self._streams(None, 0)
        phase = self._phase(0, ids.shape[1] + 1)
        x = self._decoder_rows(ids)
        for block in self._lower_blocks():
            x = block(x, phase[:, 1:], streams.decoder)

        x = x.expand(*lead, *x.shape[1:]).flatten(0, -3)
        for layer, block in enumerate(self._latent_blocks()):
            row = self._injected(layer, z[:, layer])[:, None]
            x = block(torch.cat((row, x), 1), phase, streams.bridged)
        return x, lead

    def _injected(self, layer: int, z: Float[Tensor, "*lead d"]) -> Float[Tensor, "*lead width"]:
        """Return the row of a latent, which distributions hold in at least float32."""
        row: Tensor = self.inject[layer](z.to(self._table.dtype))
        return row

    def _lower_blocks(self) -> nn.ModuleList:
        return self.blocks[: -len(self.infer)]

    def _latent_blocks(self) -> nn.ModuleList:
        return self.blocks[-len(self.infer) :]

    def _decoder_rows(self, ids: Tensor) -> Tensor:
        """Return the rows of the start token and of all tokens but the last.

        In training, ``word_dropout`` replaces tokens at random by padding.
        """
        inputs = torch.cat((ids.new_full((ids.shape[0], 1), START), ids[:, :-1]), 1)
        if self.training and self.config.word_dropout:
            # Padding is masked for all rows, so that its embedding is free for blanked tokens.
            blank = torch.rand(inputs.shape, device=inputs.device) < self.config.word_dropout
            inputs = inputs.masked_fill(blank & (inputs != START), PAD)
        return self.embedding.decoder_rows(inputs)

    def _phase(self, start: int, stop: int) -> Tensor:
        positions = torch.arange(start, stop, device=self._table.device)
        c = self.config
        return phases(positions, c.width // c.heads, c.rotary_base, self._table.dtype)[None]

    def _encoder_phase(self, tokens: int) -> Tensor:
        return self._phase(0, tokens + 1).roll(-1, 1)  # row 0 stands last and has position 0

    def _streams(self, real: Tensor | None, encoder_rows: int) -> Streams:
        config = self.config
        mask = None
        if real is not None and not all_true(real):  # without a mask the fused kernels skip work
            mask = padding(F.pad(real, (0, 1), value=True))
        dropout = config.attention_dropout if self.training else 0.0
        return Streams(encoder_rows, mask, config.scale, config.scale_base, dropout)


def _embedding(config: UniVAEConfig, grid: Grid | None) -> Embedding:
    variant = Variant.of(config)
    if grid is None:
        return Embedding(config.vocab_size, config.width, config.dropout, config.norm, variant)
    if grid.cells != config.max_length:
        raise InputError(
            f"UniVAE: an image fills its grid, so max_length must be {grid.cells}; "
            f"got max_length={config.max_length}"
        )
    return GridEmbedding(
        config.vocab_size, config.width, grid, config.dropout, config.norm, variant
    )


def _posterior_head(config: UniVAEConfig) -> nn.Module:
    norm = NORMS[config.norm].output_norm(config.width, Variant.of(config))
    return nn.Sequential(norm, config.family.posterior_head(config))
