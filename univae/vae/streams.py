"""Who attends to whom in a UniVAE's two streams, as the :data:`univae.attention.Mix` of each kind of layer.

Rows lie as [encoder tokens | row 0 | decoder rows]: the encoder's rows are a front slice, the decoder's keys with the
latent as their first a back slice, and row 0 belongs to both without a copy. The scores of the dense (2n)^2 mask that
it hides are never computed.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from univae.attention.core import attend
from univae.attention.scaling import Scale

__all__ = ["Streams"]


@dataclass(frozen=True)
class Streams:
    """``encoder_rows`` counts the encoder's tokens and row 0; ``mask`` hides its padding."""

    encoder_rows: int = 0
    mask: Bool[Tensor, "batch 1 1 keys"] | None = None
    scale: Scale = "sqrt"
    base: int = 512
    dropout: float = 0.0

    def encoder(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Every row sees every real row."""
        return attend(q, k, v, self.mask, scale=self.scale, base=self.base, dropout=self.dropout)

    def decoder(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each row sees itself and the rows before."""
        return attend(q, k, v, causal=True, scale=self.scale, base=self.base, dropout=self.dropout)

    def bridged(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The decoder behind a latent: row 0 is the first key of every row and gives no output."""
        return self.decoder(q, k, v)[..., 1:, :]

    def both(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """A layer below the latents: the streams do not see each other."""
        sizes = (self.encoder_rows, q.shape[-2] - self.encoder_rows)
        encoder, decoder = zip(*(part.split(sizes, -2) for part in (q, k, v)), strict=True)
        return torch.cat((self.encoder(*encoder), self.decoder(*decoder)), -2)

    def both_bridged(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """A latent layer that the encoder still needs."""
        n = self.encoder_rows
        encoded = self.encoder(*(part[..., :n, :] for part in (q, k, v)))
        return torch.cat(
            (encoded, self.bridged(*(part[..., n - 1 :, :] for part in (q, k, v)))), -2
        )
