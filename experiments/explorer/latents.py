"""Sliders that move latents, layer by layer, along the principal components of codes."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution

from experiments.explorer.directions import principal_components
from experiments.explorer.panels import SliderField
from univae.latent.hierarchy import Hierarchical
from univae.latent.layouts import Flat, Stacked

__all__ = ["LatentSliders", "layout_of", "slider"]

SLIDERS = 8  # of all layers together, about
FEWEST = 2  # of a layer
FARTHEST = 3.0  # standard deviations
STEP = 0.25

Layout: TypeAlias = Flat | Stacked


@dataclass(frozen=True)
class LatentSliders:
    """Directions of latent layers, with a slider each.

    ``directions`` holds (components, d) of every layer that has sliders, by its number.
    """

    layout: Layout
    directions: dict[int, Tensor]
    displaced: Callable[[Tensor, Tensor], Tensor]  # a layer's latents, and a step to add

    @classmethod
    def of(
        cls,
        prior: Distribution,
        codes: Tensor,
        layers: Collection[int],
        displaced: Callable[[Tensor, Tensor], Tensor] = torch.add,
    ) -> "LatentSliders":
        """Return sliders along the principal components of codes.

        Args:
            prior: of the model; its latents are those of ``codes``.
            codes: (N, *event), of data.
            layers: the layers to move; those that the data depend on.
            displaced: adds a step to latents of a layer.
        """
        layout = layout_of(prior)
        count = max(FEWEST, SLIDERS // max(1, len(layers)))
        directions = {}
        for layer, latents in enumerate(layout.split(codes)):
            if layer in layers:
                directions[layer] = principal_components(latents, count)
        return cls(layout, directions, displaced)

    @property
    def fields(self) -> list[SliderField]:
        """The sliders, layer by layer."""
        several = self.layout.count > 1
        fields = []
        for layer, components in self.directions.items():
            group = f"Layer {layer}" if several else "Latent"
            fields += [slider(group, number) for number in range(1, len(components) + 1)]
        return fields

    @property
    def missing(self) -> str:
        """A sentence on the layers without a slider, after a blank; nothing if there are none."""
        fixed = [layer for layer, components in self.directions.items() if not len(components)]
        if not fixed:
            return ""
        names = ", ".join(map(str, fixed))
        return f" The codes of all these data are equal in layer {names}, which has no slider."

    def moved(self, z: Tensor, offsets: Sequence[float]) -> Tensor:
        """Return latents (N, *event) moved by an offset for each of :attr:`fields`.

        An offset of 1 is the standard deviation of the codes along the component.
        """
        layers = list(self.layout.split(z))
        remaining = torch.tensor(offsets, dtype=z.dtype, device=z.device)
        for layer, components in self.directions.items():
            own = remaining[: len(components)]
            remaining = remaining[len(components) :]
            if own.any():
                layers[layer] = self.displaced(layers[layer], own @ components)
        return self.layout.join(layers)


def layout_of(prior: Distribution) -> Layout:
    """Return how the latents of a prior are divided into layers."""
    if isinstance(prior, Hierarchical):
        layout: Layout = prior.layout
        return layout
    shape = prior.event_shape
    return Flat((shape[0],)) if len(shape) == 1 else Stacked(*shape)


def slider(group: str, number: int) -> SliderField:
    """Return the slider of a direction, numbered from 1."""
    return SliderField(f"direction {number}", -FARTHEST, FARTHEST, STEP, group=group)
