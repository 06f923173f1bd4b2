r"""Layouts that pack several latent layers into one tensor.

:class:`Stacked` packs layers of one width, (\*lead, layers, d), and :class:`Flat` layers of any
widths side by side, (\*lead, d).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Size, Tensor

__all__ = ["Flat", "Stacked"]


@dataclass(frozen=True)
class Stacked:
    r"""Layers of one width, stacked: z is (\*lead, layers, width)."""

    layers: int
    width: int

    @property
    def event_shape(self) -> Size:
        """The shape of z."""
        return Size((self.layers, self.width))

    @property
    def count(self) -> int:
        """The number of layers."""
        return self.layers

    def split(self, z: Float[Tensor, "*lead layers d"]) -> Sequence[Tensor]:
        """Return the layers of z, (*lead, width) each."""
        return z.unbind(-2)

    def join(self, latents: Sequence[Tensor]) -> Float[Tensor, "*lead layers d"]:
        """Return z from its layers."""
        return torch.stack(list(latents), -2)


@dataclass(frozen=True)
class Flat:
    r"""Layers of any widths, concatenated: z is (\*lead, sum of widths)."""

    widths: tuple[int, ...]

    @property
    def event_shape(self) -> Size:
        """The shape of z."""
        return Size((sum(self.widths),))

    @property
    def count(self) -> int:
        """The number of layers."""
        return len(self.widths)

    def split(self, z: Float[Tensor, "*lead d"]) -> Sequence[Tensor]:
        """Return the layers of z, (*lead, widths[l])."""
        latents: tuple[Tensor, ...] = z.split(list(self.widths), -1)
        return latents

    def join(self, latents: Sequence[Tensor]) -> Float[Tensor, "*lead d"]:
        """Return z from its layers."""
        return torch.cat(list(latents), -1)
