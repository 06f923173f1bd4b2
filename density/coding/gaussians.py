"""Gaussians of latent layers: means and deviations of a model's distributions, as arrays."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal

from density.coding.finite import NotFinite, first_row
from univae.errors import InputError

__all__ = ["ClimbRecord", "Gaussians", "Layered", "as_gaussians", "climb"]


class Gaussians(NamedTuple):
    """Diagonal Gaussians of several rows: means and deviations, (rows, d), in float64."""

    mean: np.ndarray
    scale: np.ndarray

    def first(self, count: int) -> "Gaussians":
        """Return those of the first ``count`` rows."""
        return Gaussians(self.mean[:count], self.scale[:count])


# (layer, its Gaussian given the values of the layers before) -> values of the layer, (rows, d)
Choose: TypeAlias = Callable[[int, Gaussians], np.ndarray]


@runtime_checkable
class Layered(Protocol):
    """A distribution of several layers, whose values are set one layer after the other."""

    def walk(
        self, lead: Size, choose: Callable[[int, Distribution], Tensor]
    ) -> tuple[Tensor, Sequence[Distribution]]:
        """Return the values of ``choose``, of leading shape ``lead``, and the conditionals."""
        ...


class ClimbRecord(NamedTuple):
    """The Gaussians and the values of all layers, by layer, in the order of the climb."""

    conditionals: dict[int, Gaussians]
    values: dict[int, np.ndarray]


def as_gaussians(distribution: Distribution, rows: int, what: str) -> Gaussians:
    """Return means and deviations of Gaussians with independent coordinates, expanded to ``rows``.

    Raises:
        InputError: the distribution is not Gaussian: a codec needs one-dimensional distribution
            functions.
        NotFinite: a mean or a deviation is not finite; ``what`` is part of the message.
    """
    base = distribution
    while isinstance(base, Independent):
        base = base.base_dist
    if not isinstance(base, Normal):
        raise InputError(
            "bits-back: needs latents with one-dimensional distribution functions, diagonal "
            f"Gaussians; got {type(base).__name__}; use a model with Gaussian latents"
        )
    width = distribution.event_shape.numel()
    mean = _flat(base.loc, rows, width)
    scale = _flat(base.scale, rows, width)
    is_finite = np.isfinite(mean) & np.isfinite(scale) & (scale > 0)
    if not is_finite.all():
        raise NotFinite(f"{what} has no finite mean and deviation", first_row(is_finite))
    return Gaussians(mean, scale)


def climb(distribution: Distribution, rows: int, choose: Choose, what: str) -> ClimbRecord:
    """Walk the layers of a distribution over ``rows`` rows; ``choose`` returns their values.

    A distribution without layers is layer 0. ``what`` names it in errors, see
    :func:`as_gaussians`.
    """
    recorder = _Recorder(rows, choose, what)
    if isinstance(distribution, Layered):
        distribution.walk(Size((rows,)), recorder)
    else:
        recorder(0, distribution)
    return ClimbRecord(recorder.conditionals, recorder.values)


class _Recorder:
    """Records the values of each layer with the layer's Gaussian."""

    def __init__(self, rows: int, choose: Choose, what: str) -> None:
        self.rows = rows
        self.choose = choose
        self.what = what
        self.conditionals: dict[int, Gaussians] = {}
        self.values: dict[int, np.ndarray] = {}

    def __call__(self, layer: int, conditional: Distribution) -> Tensor:
        gaussian = as_gaussians(conditional, self.rows, f"{self.what} of latent layer {layer}")
        values = self.choose(layer, gaussian)
        self.conditionals[layer] = gaussian
        self.values[layer] = values
        return torch.from_numpy(values).view(self.rows, *conditional.event_shape)


def _flat(parameter: Tensor, rows: int, width: int) -> np.ndarray:
    values = parameter.detach().to("cpu", torch.float64).numpy()
    return np.broadcast_to(values.reshape(-1, width), (rows, width))
