r"""The image and table models, ``IMAGE_MODELS``, by the class name in a stored configuration.

Every model is built from plain values, stored in ``config``, from which :func:`build` rebuilds it
with new weights. Images and rows x are (B, \*shape), see
:mod:`density.likelihoods.head`; latents z are (\*sample, B, d); the encoder is evaluated once per
``posterior``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from density.images.attention import AttentionVAE
from density.images.base import DataModel
from density.images.conv import ConvVAE
from density.images.ladder import LadderVAE
from density.images.mlp import MLPVAE
from density.images.univae import PatchVAE
from density.likelihoods.head import Pixels
from univae.checkpoint import JsonValue
from univae.errors import InputError
from univae.registry import lookup

__all__ = ["IMAGE_MODELS", "ImageModelEntry", "build"]

NOT_OPTIONS = ("model", "pixels")  # keys of a configuration

Model = TypeVar("Model", bound=DataModel, covariant=True)


@dataclass(frozen=True)
class ImageModelEntry(Generic[Model]):
    """A class of models, called as ``kind(pixels, **options)``."""

    kind: Callable[..., Model]
    summary: str

    def build(self, config: Mapping[str, JsonValue]) -> Model:
        """Build the model of a ``config``, also one stored as JSON, with new weights.

        Raises:
            InputError: the configuration has options that the class lacks, or lacks required ones.
        """
        options = {name: value for name, value in config.items() if name not in NOT_OPTIONS}
        try:
            return self.kind(_pixels(config.get("pixels", {})), **options)
        except TypeError as error:
            raise InputError(
                f"build: a configuration of another version ({error}); train again"
            ) from error


def _pixels(config: object) -> Pixels:
    if not isinstance(config, Mapping):
        raise TypeError(f"pixels is {config!r}")
    if "shape" not in config:
        raise TypeError("pixels has no shape")
    options = dict(config)
    for name in ("shape", "kinds", "sizes"):
        if name in options:
            options[name] = tuple(options[name])  # a list in JSON
    return Pixels(**options)


IMAGE_MODELS: dict[str, ImageModelEntry[DataModel]] = {
    "MLPVAE": ImageModelEntry(MLPVAE, "fully connected, one latent layer or several"),
    "ConvVAE": ImageModelEntry(ConvVAE, "residual convolutions, one latent vector"),
    "AttentionVAE": ImageModelEntry(AttentionVAE, "attention over patches, one latent vector"),
    "LadderVAE": ImageModelEntry(LadderVAE, "residual convolutions, a latent image a resolution"),
    "PatchVAE": ImageModelEntry(PatchVAE, "a UniVAE over the patches of an image"),
}


def build(config: Mapping[str, JsonValue]) -> DataModel:
    """Build the model that a ``config`` describes, also one stored as JSON, with new weights.

    Raises:
        InputError: ``config["model"]`` is not in ``IMAGE_MODELS``, or has other options.
    """
    return lookup(IMAGE_MODELS, str(config.get("model")), "build: model").build(config)
