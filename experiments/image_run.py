"""An image or table model: from options to its configuration, and from a run folder back to the model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import density.images
from density.image_model import DataModel, image_shape
from density.networks import Activation
from density.output import Likelihood, Pixels
from experiments.data import CHUNK, Data, binarise, refuse_beyond_float32, without_rows
from experiments.density_task import ImageObjective
from experiments.distributed import pick_device
from experiments.patch_model import WORDS, PatchVAE, word_count
from experiments.run import Run, stored_value
from experiments.settings import Settings
from univae.checkpoint import load_weights, read_json
from univae.errors import InputError
from univae.rules import SIZE, Rule, at_least, each, reading

__all__ = [
    "ImageRun",
    "ImageShape",
    "as_training_set",
    "build",
    "centred",
    "fixed",
    "model_config",
    "require_levels",
    "settled",
]


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """The model of an image or a row of a table."""

    model: Literal["mlp", "conv", "attention", "ladder", "univae"] = "mlp"
    likelihood: Literal["auto", "bernoulli", "categorical", "logistic", "gaussian"] = "auto"  # auto: by the data
    components: int = 1  # of a mixture of logistics
    reach: int = 0  # rows above and columns beside that a pixel sees of the image; 0: all it knows is the latent
    context: int = 32  # features a pixel has for what it sees
    latents: tuple[int, ...] = (50,)  # width of each stochastic layer, the lowest first; of ladder: channels
    latent_layers: int = 2  # of univae: its last layers, each with a latent of the one width in --latents
    hidden: tuple[int, ...] = (200, 200)  # of mlp: widths between the data and the first latent
    hidden_above: tuple[int, ...] = (100, 100)  # of mlp: widths between one latent and the next
    activation: Activation = "tanh"  # of mlp
    width: int = 32  # of conv, ladder, attention and univae
    depth: int = 1  # residual blocks per resolution, of conv and ladder
    heads: int = 4  # of attention and univae, as the next two
    layers: int = 2
    patch: int = 0  # side of a patch in pixels; 0: attention 4, univae 2, or 1 where 2 is too many
    patch_width: int = 0  # of univae, where its patches are no squares but so many pixels wide; 0: as high
    near: int = 2  # of univae: rows and columns of patches that the prediction of the next one starts from

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


def model_config(shape: ImageShape, data: Data, binary: bool) -> dict[str, Any]:
    """What :func:`density.images.build` takes; ``binary``: pixels are drawn black or white."""
    likelihood = shape.likelihood
    if likelihood == "auto":
        grey: Likelihood = "categorical" if shape.model == "univae" else "logistic"
        likelihood = "bernoulli" if binary or data.levels == 2 else grey if data.levels else "gaussian"
    if likelihood == "bernoulli" and not (binary or data.levels == 2):
        raise InputError(f"likelihood=bernoulli needs zeros and ones; {data.name} has others; choose a --binarisation")
    if data.levels is None and likelihood in ("categorical", "logistic"):
        raise InputError(f"likelihood={likelihood} needs whole numbers; {data.name} has real ones; choose gaussian")
    levels = 2 if binary or likelihood == "bernoulli" else data.levels or 2
    pixels: dict[str, Any] = {"shape": data.shape, "likelihood": likelihood, "levels": levels}
    pixels |= {"components": shape.components, "reach": shape.reach, "context": shape.context}
    furthest = max(data.shape[1:], default=1) - 1
    if len(data.shape) == 3 and shape.reach > furthest:
        raise InputError(
            f"reach must be at most {furthest}, from edge to edge of the images of {data.name}; got reach={shape.reach}"
        )
    if shape.model == "univae" and shape.reach:
        raise InputError(f"model=univae sees all patches before; got reach={shape.reach}; leave it at 0, or see --near")
    if shape.model != "mlp" and shape.model != "ladder" and len(shape.latents) != 1:
        raise InputError(f"model={shape.model} has one latent; got latents={shape.latents}; give one width, or mlp")
    own: dict[str, dict[str, Any]] = {
        "mlp": {
            "model": "MLPVAE",
            "latents": shape.latents,
            "hidden": (shape.hidden, *[shape.hidden_above] * (len(shape.latents) - 1)),
            "activation": shape.activation,
        },
        "conv": {"model": "ConvVAE", "latent": shape.latents[0], "width": shape.width, "depth": shape.depth},
        "attention": {
            "model": "AttentionVAE",
            "latent": shape.latents[0],
            "patch": shape.patch or 4,
            **{name: getattr(shape, name) for name in ("width", "heads", "layers")},
        },
        "ladder": {"model": "LadderVAE", "latents": shape.latents, "width": shape.width, "depth": shape.depth},
        "univae": {
            "model": "PatchVAE",
            "latent": shape.latents[0],
            "patch": (shape.patch, shape.patch_width or shape.patch),
            **{name: getattr(shape, name) for name in ("width", "heads", "layers", "latent_layers", "near")},
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
    """Makes the model that a ``config`` describes, also one that was stored as JSON; its weights start anew."""
    if config.get("model") != "PatchVAE":
        return density.images.build(config)
    rest = {name: value for name, value in config.items() if name not in ("model", "pixels")}
    try:
        pixels = dict(config["pixels"])
        return PatchVAE(Pixels(tuple(pixels.pop("shape")), **pixels), **rest)  # JSON has lists
    except (KeyError, TypeError) as error:
        raise InputError(f"build: a configuration of another version ({error}); train anew") from error


def settled(binarisation: str, data: Data) -> Any:
    """Return the binarisation that ``auto`` stands for: dynamic, or none for real numbers.

    Raises:
        InputError: grey levels are to be drawn black or white, and the data are real numbers.
    """
    if binarisation == "auto":
        return "none" if data.levels is None else "dynamic"
    if binarisation != "none" and data.levels is None:
        raise InputError(
            f"binarisation={binarisation} needs grey levels; {data.name} has real numbers; give --binarisation none"
        )
    return binarisation


def fixed(data: Data, how: str, seed: int) -> Data:
    """The data one measures on: drawn black or white once, if training draws them at all."""
    if how == "none":
        return data
    return binarise(data, "threshold" if how == "threshold" else "static", seed)


def centred(data: Data, run: Run | None) -> Data:
    """Return data as a run's model takes them: columns of real numbers less their mean, in float64.

    A density does not change with its origin. The means are those of the run's training set, or the
    data's own where the run is yet to start; a run of version 0.1.0 has none.
    """
    if data.kind != "table" or data.levels is not None:
        return data
    if run is None:
        return replace(data, centre=np.asarray(data.values.mean(0, dtype=np.float64)), given=None)
    record = run.data_record()
    return replace(data, centre=without_rows(record["data"]).centre, given=None) if record else data


def as_training_set(data: Data, train: Data, who: str, whose: str) -> Data:
    """Return data with the levels and centre of a training set, and a note of what that assumes.

    A reader cannot tell the 17 levels of one set from the first 17 of another's 256, and 0 and 255
    may be black and white: what the training set was decides. ``who`` names the data in errors,
    ``whose`` the training set.

    Raises:
        InputError: the shape is another, or real numbers meet levels.
    """
    if data.shape != train.shape:
        raise InputError(f"{who}: a datum is {data.shape}, {whose} has {train.shape}")
    if train.levels is None:
        if data.levels is not None and data.kind == "images":
            data = data.noted(f"{data.name}: whole numbers, taken for real ones as those of the training set are")
        return replace(data, levels=None, centre=train.centre)
    if data.levels is None:
        raise InputError(f"{who}: real numbers, but {whose} has the levels 0..{train.levels - 1}; convert them")
    if data.one_bit and train.levels > 2:
        white = train.levels - 1
        values = np.asarray(data.values) * np.uint8(white)
        note = f"{data.name}: 1 bit a pixel, read as 0 and {white} of the {train.levels} levels of the training set"
        return replace(data, values=values, levels=train.levels, given=None, one_bit=False).noted(note)
    if data.levels <= train.levels:
        return data
    highest = int(data.values.max())
    if highest < train.levels:
        note = f"{data.name}: 0..{highest} are read as {train.levels} levels, as those of the training set are"
        return replace(data, levels=train.levels).noted(note)
    if train.levels == 2 and _black_and_white(data.values):
        values = (np.asarray(data.values) // 255).astype(np.uint8)
        note = f"{data.name}: 0 and 255 are read as black and white, as the training set is"
        return replace(data, values=values, levels=2, given=None).noted(note)
    return data


def require_levels(data: Data, levels: int | None, who: str) -> None:
    """Raise :class:`InputError` for a value above ``levels`` - 1; ``None`` allows all."""
    if levels is None or data.levels is None or data.levels <= levels:
        return
    highest = int(data.values.max())
    if highest >= levels:
        raise InputError(f"{who}: must hold the levels 0..{levels - 1}; got {highest}; binarise or rescale it")


def _black_and_white(values: np.ndarray) -> bool:
    chunks = (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
    return all(bool(((part == 0) | (part == 255)).all()) for part in chunks)


class ImageRun:
    """What the commands that use an image or table model share."""

    def __init__(self, path: Path, device: str = "auto", checkpoint: str = "best") -> None:
        self.run = Run.open(path)
        if self.run.config.get("command") != "train-density":
            raise InputError(f"{path} is not the run of an image or table model; give the --out of train-density")
        self.device = pick_device(device)
        described = read_json(path / "model.json")
        with reading(path / "model.json"):
            self.model = build(described)
        with reading(path / "config.json"):
            self._binarisation = stored_value(self.run, ImageObjective, "binarisation")
            self._seed = stored_value(self.run, Settings, "seed")
        load_weights(self.model, self.run.checkpoint(checkpoint) / "model.safetensors")
        self.model.to(self.device).eval()

    def fit_to(self, data: Data) -> Data:
        """Return data as this model takes them: of its shape, levels and centre, and binarised.

        Raises:
            InputError: the shape is another, or a value is none that the model's law has.
        """
        pixels = self.model.output.pixels
        wanted = tuple(pixels.shape)
        if data.shape != wanted:
            raise InputError(f"{data.name}: a datum is {data.shape}, the model of {self.run.path} takes {wanted}")
        record = self.run.data_record()
        if record:
            train = without_rows(record["data"])
            data = as_training_set(data, train, data.name, f"the training set of {self.run.path}")
        refuse_beyond_float32(data)
        how = self._binarisation
        if how != "none":
            settled(how, data)
        elif pixels.nats == "mass" and data.levels is None:
            raise InputError(
                f"{data.name}: must hold the levels 0..{pixels.levels - 1}; it has real numbers; convert it"
            )
        data = fixed(data, how, self._seed)
        require_levels(data, pixels.levels if pixels.nats == "mass" else None, data.name)
        return data
