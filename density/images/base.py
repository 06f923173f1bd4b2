"""The base classes of image and table models: standard normal prior, plain-value configuration."""

from collections.abc import Collection
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.likelihoods.head import Output, Pixels
from univae.checkpoint import JsonObject
from univae.dtypes import computation_dtype
from univae.errors import InputError
from univae.latent.gaussian import diagonal_gaussian
from univae.latent.hierarchy import Hierarchical
from univae.rules import SIZE, Rule, at_least, check_values, each

__all__ = ["DataModel", "HasPixels", "ImageModel"]


# Rules for the arguments of all models.
RULES: dict[str, Rule] = {
    "latent": at_least(1, SIZE),
    "latents": each(at_least(1, SIZE), least=0),  # each model checks the count
    "hidden": each(each(at_least(1, SIZE))),
    "width": at_least(1, SIZE),
    "depth": at_least(1, 1024),
    "heads": at_least(1, 1024),
    "layers": at_least(1, 1024),
    "patch": at_least(1, 1024),
}


class HasPixels(Protocol):
    """An output module with a description of the data."""

    pixels: Pixels


class DataModel(nn.Module):
    """A :class:`density.LatentModel` of images or tables that is a module, for training.

    ``config`` holds plain values, from which :func:`density.images.build` rebuilds the model.
    """

    config: JsonObject
    output: HasPixels

    def prior(self) -> Distribution:
        r"""Return :math:`p(z)`, of batch shape ``()``."""
        raise NotImplementedError

    def posterior(self, x: Tensor) -> Distribution:
        r"""Return :math:`q(z \mid x)` of images or rows (B, \*shape)."""
        raise NotImplementedError

    def likelihood(self, z: Tensor) -> Distribution:
        r"""Return :math:`p(x \mid z)`; its ``log_prob`` broadcasts x over the sample axes of z."""
        raise NotImplementedError

    def match_marginals(self, x: Tensor) -> None:
        """Set biases so that a decoder of zeros has the marginals of the training set x."""
        raise NotImplementedError

    @property
    def layer_count(self) -> int:
        """The number of latent layers."""
        prior = self.prior()
        return prior.layout.count if isinstance(prior, Hierarchical) else 1

    @property
    def decoded_layers(self) -> range:
        """The latent layers that the pixels depend on directly."""
        return range(self.layer_count)

    def resample(self, z: Tensor, layers: Collection[int]) -> Tensor:
        r"""Draw some latent layers from the prior, each given the layers before; keep the others.

        Args:
            z: latents (\*lead, \*event).
            layers: the layers to draw, counted from 0.

        Raises:
            InputError: the model has one latent layer, which the data depend on as a whole.
        """
        prior = self.prior()
        if not isinstance(prior, Hierarchical):
            raise InputError("resample: the model has one latent layer; train one with several")
        return prior.resample(z, layers)


class ImageModel(DataModel):
    """A model with a standard normal prior and a decoder into an :class:`Output`.

    Subclasses set ``latent``, the width of the prior, or override :meth:`prior`.
    """

    latent: int
    output: Output

    def __init__(self, pixels: Pixels, **options: object) -> None:
        super().__init__()
        check_values(type(self).__name__, RULES, options)
        self.config = {"model": type(self).__name__, "pixels": pixels.to_json(), **options}
        self.output = Output(pixels)

    def prior(self) -> Distribution:
        """Return ``latent`` independent standard normals, in at least float32."""
        bias = self.output.bias
        origin = torch.zeros(self.latent, dtype=computation_dtype(bias), device=bias.device)
        return diagonal_gaussian(origin, torch.ones_like(origin))

    def likelihood(self, z: Float[Tensor, "*lead d"]) -> Distribution:
        r"""Return :math:`p(x \mid z)`; its ``log_prob`` broadcasts x over the sample axes of z."""
        distribution: Distribution = self.output(self.decode(z.to(self.output.bias.dtype)))
        return distribution

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        r"""Return the parameters of every pixel, (\*lead, numbers, \*shape)."""
        raise NotImplementedError

    def match_marginals(self, x: Tensor) -> None:
        """Set the output's bias; see :meth:`density.likelihoods.Output.match_marginals`."""
        self.output.match_marginals(x)
