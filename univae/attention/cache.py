"""The key/value cache of one layer during generation."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from univae.attention.scaling import SCALES, Scale, entropy_scale
from univae.registry import lookup

__all__ = ["KeyValueCache"]


class KeyValueCache:
    """One layer's keys and values in buffers of a fixed size, filled from the front."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        like: Tensor,
        scale: Scale = "sqrt",
        base: int = 512,
        real: Bool[Tensor, "batch capacity"] | None = None,
    ) -> None:
        """Allocate buffers of ``shape`` (batch, heads, capacity, D).

        They have the dtype and the device of ``like``. ``real`` is False for padding, which is
        masked for all rows; by default there is no padding.
        """
        self.keys = like.new_zeros(shape)
        self.values = like.new_zeros(shape)
        self.scale: Scale = scale
        self.scales_queries = lookup(SCALES, scale, "KeyValueCache: scale").factor is not None
        self.base = base
        self.length = 0
        self.real = real

    def fill(
        self, k: Float[Tensor, "batch heads rows D"], v: Float[Tensor, "batch heads rows D"]
    ) -> None:
        """Append several rows to each sequence."""
        start = self.length
        self.length = start + k.shape[2]
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v

    def extend(
        self,
        q: Float[Tensor, "batch heads D"],
        k: Float[Tensor, "batch heads D"],
        v: Float[Tensor, "batch heads D"],
    ) -> Float[Tensor, "batch heads 1 D"]:
        """Append one row to each sequence, and return its :func:`attend` to all cached rows."""
        self.keys.select(2, self.length).copy_(k)
        self.values.select(2, self.length).copy_(v)
        self.length += 1

        mask = None if self.real is None else self.real[:, None, None, : self.length]
        if self.scales_queries:
            q = (q * self._factor(mask)).to(q.dtype)
        keys = self.keys.narrow(2, 0, self.length)
        values = self.values.narrow(2, 0, self.length)
        return F.scaled_dot_product_attention(q.unsqueeze(2), keys, values, attn_mask=mask)

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Replace row i by row ``rows[i]``; ``rows`` may be fewer than the batch."""
        self.keys = self._reordered(self.keys, rows)
        self.values = self._reordered(self.values, rows)
        if self.real is not None:
            self.real = self.real[rows]

    def _reordered(self, buffer: Tensor, rows: Tensor) -> Tensor:
        buffer[: len(rows), :, : self.length] = buffer[rows, :, : self.length]
        return buffer[: len(rows)]

    def _factor(self, mask: Tensor | None) -> Tensor | float:
        if mask is None:
            return entropy_scale(torch.tensor(self.length), self.scale, self.base).item()
        return entropy_scale(mask.sum(-1), self.scale, self.base)
