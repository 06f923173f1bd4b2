"""The registry of networks of image and table models, for ``--model``, and their options.

A row of :data:`IMAGE_MODELS` names the options that it uses, and converts them to the configuration
of a class in :mod:`density.images`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from typing_extensions import Doc

from density.images.layers import Activation
from density.images.patch_words import MOST_WORDS, word_count
from density.likelihoods.head import Pixels
from density.likelihoods.laws import LAWS
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import SIZE, Rule, at_least, check, each

__all__ = ["AUTO", "IMAGE_MODELS", "ImageModelKind", "ImageShape"]

AUTO = "auto"  # --likelihood by the data


class ImageModelKind(ABC):
    """A network of :mod:`density.images`."""

    summary: ClassVar[str]
    # fields of ImageShape that it uses, besides those of the pixels
    options: ClassVar[tuple[str, ...]]
    grey_law: ClassVar[str] = "logistic"  # --likelihood auto, for grey levels
    single_latent: ClassVar[bool] = True

    def check(self, shape: "ImageShape") -> None:
        """Raise :class:`InputError` for options that the network cannot have."""
        if self.single_latent and len(shape.latents) != 1:
            raise InputError(
                f"model={shape.model} has one latent; got latents={shape.latents}; "
                "give one width, or mlp"
            )

    @abstractmethod
    def config(self, shape: "ImageShape", pixels: Pixels) -> JsonObject:
        """Return what :func:`density.images.build` takes, but for the pixels."""


class _MLP(ImageModelKind):
    summary = "fully connected layers, of images and tables"
    options = ("latents", "hidden", "hidden_above", "activation")
    single_latent = False

    def config(self, shape: "ImageShape", pixels: Pixels) -> JsonObject:
        above = [shape.hidden_above] * (len(shape.latents) - 1)
        return {
            "model": "MLPVAE",
            "latents": shape.latents,
            "hidden": (shape.hidden, *above),
            "activation": shape.activation,
        }


class _Conv(ImageModelKind):
    summary = "residual convolutions"
    options = ("latents", "width", "depth")

    def config(self, shape: "ImageShape", pixels: Pixels) -> JsonObject:
        return {
            "model": "ConvVAE",
            "latent": shape.latents[0],
            "width": shape.width,
            "depth": shape.depth,
        }


class _Attention(ImageModelKind):
    summary = "attention over patches"
    options = ("latents", "width", "heads", "layers", "patch")

    PATCH = 4  # pixels, where --patch is 0

    def config(self, shape: "ImageShape", pixels: Pixels) -> JsonObject:
        return {
            "model": "AttentionVAE",
            "latent": shape.latents[0],
            "patch": shape.patch or self.PATCH,
            "width": shape.width,
            "heads": shape.heads,
            "layers": shape.layers,
        }


class _Ladder(ImageModelKind):
    summary = "a latent image per resolution"
    options = ("latents", "width", "depth")
    single_latent = False

    def config(self, shape: "ImageShape", pixels: Pixels) -> JsonObject:
        return {
            "model": "LadderVAE",
            "latents": shape.latents,
            "width": shape.width,
            "depth": shape.depth,
        }


class _UniVAE(ImageModelKind):
    summary = "the text model on patches of levels"
    options = (
        "latents",
        "latent_layers",
        "width",
        "heads",
        "layers",
        "patch",
        "patch_width",
        "near",
    )
    grey_law = "categorical"

    def check(self, shape: "ImageShape") -> None:
        if shape.reach:
            raise InputError(
                f"model=univae depends on all earlier patches; got reach={shape.reach}; "
                "leave it at 0, or see --near"
            )
        super().check(shape)

    def config(self, shape: "ImageShape", pixels: Pixels) -> JsonObject:
        side = shape.patch or self._side(pixels)
        return {
            "model": "PatchVAE",
            "latent": shape.latents[0],
            "patch": (side, shape.patch_width or side),
            "width": shape.width,
            "heads": shape.heads,
            "layers": shape.layers,
            "latent_layers": shape.latent_layers,
            "near": shape.near,
        }

    def _side(self, pixels: Pixels) -> int:
        """Return two pixels where they divide the image and make a vocabulary, otherwise one."""
        count = word_count(pixels, (2, 2))
        divides = all(side % 2 == 0 for side in pixels.shape[1:])
        return 2 if divides and count <= MOST_WORDS else 1


IMAGE_MODELS: Mapping[str, ImageModelKind] = {
    "mlp": _MLP(),
    "conv": _Conv(),
    "attention": _Attention(),
    "ladder": _Ladder(),
    "univae": _UniVAE(),
}

if TYPE_CHECKING:
    ImageModelName: TypeAlias = str
    LawChoice: TypeAlias = str
else:
    ImageModelName = Literal[tuple(IMAGE_MODELS)]
    LawChoice = Literal[(AUTO, *LAWS)]


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """The model of an image or a row of a table."""

    model: Annotated[ImageModelName, Doc(choices_help("network", IMAGE_MODELS))] = "mlp"
    likelihood: Annotated[
        LawChoice,
        Doc(choices_help("distribution of a pixel or column; auto: by the data", LAWS)),
    ] = "auto"
    # with --likelihood logistic: components of the mixture of a pixel; more fit several modes
    components: int = 1
    # rows above and columns beside that a pixel depends on, except with --model univae; more raise
    # the likelihood and take time to sample; 0: none
    reach: int = 0
    context: int = 32  # with --reach: features computed from the pixels within it
    # width of each latent layer, the lowest first, with --model ladder its channels; several only
    # with mlp and ladder
    latents: tuple[int, ...] = (50,)
    # with --model univae: number of latents, one for each of the last layers, of width --latents
    latent_layers: int = 2
    # with --model mlp: widths of the layers between the data and the first latent
    hidden: tuple[int, ...] = (200, 200)
    # with --model mlp: widths of the layers between one latent and the next
    hidden_above: tuple[int, ...] = (100, 100)
    activation: Activation = "tanh"  # with --model mlp: activation of the hidden layers
    # channels, or features of a patch, except with --model mlp; more fit better and take more time
    width: int = 32
    depth: int = 1  # with --model conv or ladder: residual blocks per resolution
    heads: int = 4  # with --model attention or univae: attention heads per layer
    layers: int = 2  # with --model attention or univae: layers of encoder and of decoder each
    # with --model attention or univae: side of a patch in pixels; 0: attention 4, univae 2, or 1
    # where 2 does not divide the image or makes too many words
    patch: int = 0
    # with --model univae: columns of a patch in pixels, if it is not square; 0: as --patch
    patch_width: int = 0
    # with --model univae: rows and columns of neighbouring patches that predict the next patch
    near: int = 2

    RULES: ClassVar[Mapping[str, Rule]] = {
        "components": at_least(1, 1000),
        "reach": at_least(0, 1000, "0 (no pixels) or more"),
        "context": at_least(1, SIZE),
        "latents": each(at_least(1, SIZE)),
        "latent_layers": at_least(1, 1024),
        "hidden": each(at_least(1, SIZE)),
        "hidden_above": each(at_least(1, SIZE)),
        "width": at_least(1, SIZE),
        "depth": at_least(1, 1024),
        "heads": at_least(1, 1024),
        "layers": at_least(1, 1024),
        "patch": at_least(0, 1024, "0 (chosen by the image) or more"),
        "patch_width": at_least(0, 1024, "0 (as high) or more"),
        "near": at_least(1, 64),
    }

    def __post_init__(self) -> None:
        check(self)
