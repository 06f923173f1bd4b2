"""The attention of a UniVAE's two streams, as the :data:`univae.attention.Mix` of each layer.

Rows lie as [encoder tokens | row 0 | decoder rows]: the encoder's rows are a front slice, the
decoder's keys with the latent as their first a back slice, and row 0 is in both without a copy.
Scores that the dense (2n)^2 mask hides are never computed.
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
    """Attention of both streams; ``mask`` excludes padding of the first ``encoder_rows``."""

    encoder_rows: int = 0
    mask: Bool[Tensor, "batch 1 1 keys"] | None = None
    scale: Scale = "sqrt"
    base: int = 512
    dropout: float = 0.0

    def encoder(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from every row to every real row."""
        return attend(q, k, v, self.mask, scale=self.scale, base=self.base, dropout=self.dropout)

    def decoder(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from each row to itself and the rows before it."""
        return attend(q, k, v, causal=True, scale=self.scale, base=self.base, dropout=self.dropout)

    def bridged(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend causally behind a latent: row 0 is the first key of all rows, without output."""
        return self.decoder(q, k, v)[..., 1:, :]

    def both(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within each stream, in a layer below the latents."""
        # The gradient of a split is one concatenation, that of slices a sum of padded tensors.
        sizes = (self.encoder_rows, q.shape[-2] - self.encoder_rows)
        pairs = [rows.split(sizes, -2) for rows in (q, k, v)]
        encoder = self.encoder(*(pair[0] for pair in pairs))
        decoder = self.decoder(*(pair[1] for pair in pairs))
        return torch.cat((encoder, decoder), -2)

    def both_bridged(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within each stream, in a latent layer whose encoder rows a later layer reads."""
        n = self.encoder_rows
        encoder = self.encoder(q[..., :n, :], k[..., :n, :], v[..., :n, :])
        decoder = self.bridged(q[..., n - 1 :, :], k[..., n - 1 :, :], v[..., n - 1 :, :])
        return torch.cat((encoder, decoder), -2)
