"""What the image and table models share: plain values in, a standard normal prior, a decoder into an output."""

from dataclasses import asdict
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.likelihoods.head import Output, Pixels
from univae.latent.gaussian import diagonal_gaussian
from univae.rules import SIZE, Rule, at_least, check_values, each

__all__ = ["DataModel", "HasPixels", "ImageModel"]


# Of the numbers that any model may be built from.
RULES: dict[str, Rule] = {
    "latent": at_least(1, SIZE),
    "latents": each(at_least(1, SIZE), least=0),  # a model says how many it needs
    "hidden": each(each(at_least(1, SIZE))),
    "width": at_least(1, SIZE),
    "depth": at_least(1, 1024),
    "heads": at_least(1, 1024),
    "layers": at_least(1, 1024),
    "patch": at_least(1, 1024),
}


class HasPixels(Protocol):
    """Whatever stands between data and networks, and knows what the data are."""

    pixels: Pixels


class DataModel(nn.Module):
    """What training and scoring ask of a model of images or tables: a :class:`density.LatentModel` that is a module.

    ``config`` holds plain values, from which the same model is built again.
    """

    config: dict[str, Any]
    output: HasPixels

    def prior(self) -> Distribution:
        r"""Return :math:`p(z)`, of batch shape ``()``."""
        raise NotImplementedError

    def posterior(self, x: Tensor) -> Distribution:
        r"""Return :math:`q(z \mid x)` of data (B, \*shape)."""
        raise NotImplementedError

    def likelihood(self, z: Tensor) -> Distribution:
        r"""Return :math:`p(x \mid z)`, whose ``log_prob(x)`` broadcasts x over the sample axes of z."""
        raise NotImplementedError

    def calibrate(self, x: Tensor) -> None:
        """Start where a decoder that says nothing gives the training data x their marginals."""
        raise NotImplementedError


class ImageModel(DataModel):
    """A prior of ``latent`` independent standard normals unless a model has another, and a decoder into an output."""

    latent: int
    output: Output

    def __init__(self, pixels: Pixels, **rest: Any) -> None:
        super().__init__()
        check_values(type(self).__name__, RULES, rest)
        self.config = {"model": type(self).__name__, "pixels": asdict(pixels), **rest}
        self.output = Output(pixels)

    def prior(self) -> Distribution:
        origin = self.output.bias.new_zeros(self.latent)
        return diagonal_gaussian(origin, torch.ones_like(origin))

    def likelihood(self, z: Float[Tensor, "*lead d"]) -> Distribution:
        return self.output(self.decode(z))

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        r"""Return the numbers of every pixel, (\*lead, numbers, \*shape)."""
        raise NotImplementedError

    def calibrate(self, x: Tensor) -> None:
        """Start the output at the marginals of the training data: see :meth:`density.likelihoods.Output.calibrate`."""
        self.output.calibrate(x)
