"""The reference implementation of a UniVAE: one pass under the dense (2n)^2 mask, as published.

It uses the model's weights without its streams: rows lie as [row 0, encoder tokens, decoder
rows], every layer computes every row, and every score is computed and masked.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Distribution

from univae.attention import masks
from univae.attention.core import attend
from univae.attention.rotary import phases
from univae.text.special import PAD, START
from univae.vae.network import TwoStreamTransformer

__all__ = ["dense"]


def dense(
    model: TwoStreamTransformer,
    ids: Tensor,
    target: Tensor,
    choose: Callable[[int, Distribution], Tensor],
    *,
    add: bool = False,
) -> tuple[list[Distribution], Tensor, Tensor, list[Tensor]]:
    """Return posterior conditionals, latents, logits, and the decoder's rows after every layer.

    ``add=True`` adds the latent's row to row 0 instead of replacing it, which lets the decoder see
    the encoder's text; the model must not do this.
    """
    config = model.config
    n = ids.shape[1] + 1
    m = target.shape[1]
    x = _rows(model, ids, target)
    positions = torch.cat((torch.arange(n), torch.arange(1, m + 1)))
    phase = phases(positions, config.width // config.heads, config.rotary_base, x.dtype)[None]
    segments = torch.cat((torch.zeros(n), torch.ones(m))).long().expand(len(ids), -1)
    decoder_real = torch.ones(len(ids), m, dtype=torch.bool)
    real = torch.cat((decoder_real.new_ones(len(ids), 1), ids != PAD, decoder_real), 1)

    first = config.layers - config.latent_layers
    posterior = []
    latents = []
    states = []
    for index, block in enumerate(model.blocks):
        if index >= first:
            layer = index - first
            posterior.append(model.infer[layer](x[:, 0]))
            latents.append(choose(layer, posterior[-1]))
            row = model.inject[layer](latents[-1])[:, None]
            x = torch.cat((row + x[:, :1] if add else row, x[:, 1:]), 1)
        mask = masks.uniae(segments, bridge=index >= first) & masks.padding(real)
        x = block(x, phase, partial(attend, mask=mask, scale=config.scale, base=config.scale_base))
        states.append(x[:, n:])

    logits = model.head(x[:, n:], model.embedding.tokens.weight)
    return posterior, torch.stack(latents, -2), logits, states


def _rows(model: TwoStreamTransformer, ids: Tensor, target: Tensor) -> Tensor:
    """Return the embedded rows: row 0, encoder tokens, decoder rows."""
    start = ids.new_full((len(ids), 1), START)
    encoder = model.embedding(torch.cat((start, ids), 1), 0)
    decoder = model.embedding(torch.cat((start, target[:, :-1]), 1), 1)
    return torch.cat((encoder, decoder), 1)
