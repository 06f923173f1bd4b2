"""Options of an image or table VAE, and the model they describe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import density.images
from density.images.base import DataModel
from density.images.layers import Activation
from density.likelihoods.head import Likelihood, Pixels
from experiments.data.arrays import Data
from experiments.images.patch_model import WORDS, PatchVAE, word_count
from univae.errors import InputError
from univae.image_shapes import image_shape
from univae.rules import SIZE, Rule, at_least, check, each

__all__ = ["ImageShape", "build", "model_config"]


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """The model of an image or a row of a table."""

    model: Literal["mlp", "conv", "attention", "ladder", "univae"] = "mlp"
    # auto: by the data
    likelihood: Literal["auto", "bernoulli", "categorical", "logistic", "gaussian"] = "auto"
    components: int = 1  # of a mixture of logistics
    # rows above and columns beside that a pixel sees of the image; 0: all it knows is the latent
    reach: int = 0
    context: int = 32  # features a pixel has for what it sees
    # width of each stochastic layer, the lowest first; of ladder: channels
    latents: tuple[int, ...] = (50,)
    # of univae: its last layers, each with a latent of the one width in --latents
    latent_layers: int = 2
    hidden: tuple[int, ...] = (200, 200)  # of mlp: widths between the data and the first latent
    hidden_above: tuple[int, ...] = (100, 100)  # of mlp: widths between one latent and the next
    activation: Activation = "tanh"  # of mlp
    width: int = 32  # of conv, ladder, attention and univae
    depth: int = 1  # residual blocks per resolution, of conv and ladder
    heads: int = 4  # of attention and univae, as the next two
    layers: int = 2
    patch: int = 0  # side of a patch in pixels; 0: attention 4, univae 2, or 1 where 2 is too many
    # of univae, where its patches are no squares but so many pixels wide; 0: as high
    patch_width: int = 0
    # of univae: rows and columns of patches that the prediction of the next one starts from
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


def model_config(shape: ImageShape, data: Data, binary: bool) -> dict[str, Any]:
    """What :func:`density.images.build` takes; ``binary``: pixels are drawn black or white."""
    likelihood = shape.likelihood
    if likelihood == "auto":
        grey: Likelihood = "categorical" if shape.model == "univae" else "logistic"
        likelihood = (
            "bernoulli" if binary or data.levels == 2 else grey if data.levels else "gaussian"
        )
    if likelihood == "bernoulli" and not (binary or data.levels == 2):
        raise InputError(
            f"likelihood=bernoulli needs zeros and ones; {data.name} has others; choose a --binarisation"
        )
    if data.levels is None and likelihood in ("categorical", "logistic"):
        raise InputError(
            f"likelihood={likelihood} needs whole numbers; {data.name} has real ones; choose gaussian"
        )
    levels = 2 if binary or likelihood == "bernoulli" else data.levels or 2
    pixels: dict[str, Any] = {"shape": data.shape, "likelihood": likelihood, "levels": levels}
    pixels |= {"components": shape.components, "reach": shape.reach, "context": shape.context}
    furthest = max(data.shape[1:], default=1) - 1
    if len(data.shape) == 3 and shape.reach > furthest:
        raise InputError(
            f"reach must be at most {furthest}, from edge to edge of the images of {data.name}; got reach={shape.reach}"
        )
    if shape.model == "univae" and shape.reach:
        raise InputError(
            f"model=univae sees all patches before; got reach={shape.reach}; leave it at 0, or see --near"
        )
    if shape.model != "mlp" and shape.model != "ladder" and len(shape.latents) != 1:
        raise InputError(
            f"model={shape.model} has one latent; got latents={shape.latents}; give one width, or mlp"
        )
    own: dict[str, dict[str, Any]] = {
        "mlp": {
            "model": "MLPVAE",
            "latents": shape.latents,
            "hidden": (shape.hidden, *[shape.hidden_above] * (len(shape.latents) - 1)),
            "activation": shape.activation,
        },
        "conv": {
            "model": "ConvVAE",
            "latent": shape.latents[0],
            "width": shape.width,
            "depth": shape.depth,
        },
        "attention": {
            "model": "AttentionVAE",
            "latent": shape.latents[0],
            "patch": shape.patch or 4,
            **{name: getattr(shape, name) for name in ("width", "heads", "layers")},
        },
        "ladder": {
            "model": "LadderVAE",
            "latents": shape.latents,
            "width": shape.width,
            "depth": shape.depth,
        },
        "univae": {
            "model": "PatchVAE",
            "latent": shape.latents[0],
            "patch": (shape.patch, shape.patch_width or shape.patch),
            **{
                name: getattr(shape, name)
                for name in ("width", "heads", "layers", "latent_layers", "near")
            },
        },
    }
    if shape.model == "univae" and not shape.patch:
        side = _side(Pixels(**pixels))
        own["univae"]["patch"] = (side, shape.patch_width or side)
    return own[shape.model] | {"pixels": pixels}


def _side(pixels: Pixels) -> int:
    """Two pixels where that divides the image and makes a vocabulary, else one."""
    divides = not any(side % 2 for side in image_shape(pixels, "PatchVAE")[1:])
    return 2 if divides and word_count(pixels, (2, 2)) <= WORDS else 1


def build(config: Mapping[str, Any]) -> DataModel:
    """Make the model that a ``config`` describes, also one that was stored as JSON.

    Its weights start anew.
    """
    if config.get("model") != "PatchVAE":
        return density.images.build(config)
    rest = {name: value for name, value in config.items() if name not in ("model", "pixels")}
    try:
        pixels = dict(config["pixels"])
        return PatchVAE(Pixels(tuple(pixels.pop("shape")), **pixels), **rest)  # JSON has lists
    except (KeyError, TypeError) as error:
        raise InputError(
            f"build: a configuration of another version ({error}); train anew"
        ) from error
