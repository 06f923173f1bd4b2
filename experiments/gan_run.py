"""A GAN: from options to its two networks and its recipe, and from a run folder back to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from experiments.data import Data, read, without_rows
from experiments.distributed import pick_device
from experiments.run import Run
from gan.augment import Change
from gan.losses import LossName
from gan.networks import build
from gan.penalties import PENALTY, Normalization, Penalties
from gan.recipe import Recipe
from gan.spectral import spectral_normalize
from univae.checkpoint import fill_weights, load_state, load_weights, read_json
from univae.errors import InputError
from univae.rules import SIZE, Rule, at_least, check, each, reading, within

__all__ = ["GanOptions", "GanRun", "GanShape", "Players", "model_config", "restored", "scaled"]
__all__ += ["in_units_of", "seen", "shown", "standardised"]


@dataclass(frozen=True, kw_only=True)
class GanShape:
    """The two networks."""

    network: Literal["auto", "mlp", "conv", "resnet", "attention"] = "auto"  # auto: conv for images, mlp for tables
    latent: int = 64
    width: int = 32  # channels of conv and resnet, features of attention
    hidden: tuple[int, ...] = (128, 128, 128)  # of mlp
    leak: float = 0.1  # slope of the critic's activations left of 0, of mlp and conv
    heads: int = 4  # of attention, as the next two
    layers: int = 2
    patch: int = 4
    skip: bool = False  # each block of resnet gets a share of the latent, as in BigGAN
    conditional: bool = False  # both networks see the labels
    spectral: Literal["no", "reshaped", "exact"] = "no"  # of the critic: of reshaped weights, or of convolutions

    RULES: ClassVar[Mapping[str, Rule]] = {
        "latent": at_least(1, SIZE),
        "width": at_least(1, SIZE),
        "hidden": each(at_least(1, SIZE)),
        "leak": within("[0, 1]"),
        "heads": at_least(1, 1024),
        "layers": at_least(1, 1024),
        "patch": at_least(1, 1024),
    }


@dataclass(frozen=True, kw_only=True)
class GanOptions:
    """How the two play."""

    loss: LossName = "hinge"
    normalization: Normalization = "gn"
    gran_eps: float = 0.1
    gradient_bound: float = 1.0  # K of gn and gran
    gp: float = 0.0  # weight of a penalty, 0 for none; 10 is usual
    lp: float = 0.0
    r1: float = 0.0
    r2: float = 0.0
    div: float = 0.0
    weight_clip: float = 0.0
    consistency: float = 0.0  # weight of the score's change where a real image moves by up to an eighth; 5 is usual
    lazy: int = 1  # r1 and r2 only every so many critic steps
    n_critic: int = 1  # critic steps per generator step; --steps counts the generator's
    generator_ratio: int = 1  # a generator's batch over a critic's
    generator_lr: float = 0.0  # 0: --lr, which is the critic's
    rescale: bool = True  # of gn: hold the size of the critic's weights
    augment: tuple[Change, ...] = ()  # DiffAugment: color, translation, cutout
    flip: bool = False  # real images are mirrored half of the time
    ema_images: float = 10_000.0  # half-life of the generator's average, in images it trained on; 0: no average
    batch_size: int = 64

    RULES: ClassVar[Mapping[str, Rule]] = {
        "gran_eps": at_least(1e-30, 1e6, "at least 1e-30, or float32 loses it"),
        "gradient_bound": at_least(1e-30, 1e6, "at least 1e-30, or float32 loses it"),
        **dict.fromkeys(("gp", "lp", "r1", "r2", "div", "weight_clip", "consistency"), PENALTY),
        "lazy": at_least(1, 10**6),
        "n_critic": at_least(1, 10**4),
        "generator_ratio": at_least(1, 10**4),
        "generator_lr": at_least(0, 1e6, "0 (that of the critic) or more"),
        "ema_images": at_least(0, 1e15, "0 (no average) or more"),
        "batch_size": at_least(2, 10**7),
    }

    def __post_init__(self) -> None:
        check(self)
        self.recipe()

    def recipe(self, bf16: bool = False, clip: float = 0.0) -> Recipe:
        """What the training step is made of; the loop keeps the average, so the recipe has none."""
        weights = {name: float(getattr(self, name)) for name in ("gp", "lp", "r1", "r2", "div")}
        return Recipe(
            loss=self.loss,
            normalization=self.normalization,
            eps=self.gran_eps,
            K=self.gradient_bound,
            penalties=Penalties(**weights, clip=self.weight_clip, cr=self.consistency),
            **{name: getattr(self, name) for name in ("lazy", "n_critic", "generator_ratio", "rescale", "augment")},
            bf16=bf16,
            clip=clip,
        )


class Players(nn.Module):
    """A generator and its critic, as one module."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.generator, self.critic = build(config["generator"]), build(config["critic"])
        if config["spectral"] != "no":
            sample = torch.zeros(2, *self.critic.shape)
            labels = torch.zeros(2, dtype=torch.long) if self.critic.classes else None
            spectral_normalize(self.critic, sample if config["spectral"] == "exact" else None, labels)


def model_config(shape: GanShape, data: Data, classes: int) -> dict[str, Any]:
    """What :class:`Players` takes; plain values."""
    images = len(data.shape) == 3
    if shape.conditional and not classes:
        raise InputError(f"conditional needs labels 0, 1, ...; {data.name} has none; drop it, or give labels")
    kind = shape.network if shape.network != "auto" else "conv" if images else "mlp"
    family = {"mlp": "MLP", "conv": "Conv", "resnet": "ResNet", "attention": "Attention"}[kind]
    common: dict[str, Any] = {"shape": data.shape, "classes": classes if shape.conditional else 0}
    own: dict[str, dict[str, Any]] = {
        "mlp": {"hidden": shape.hidden},
        "conv": {"width": shape.width},
        "resnet": {"width": shape.width},
        "attention": {name: getattr(shape, name) for name in ("patch", "width", "heads", "layers")},
    }
    generator = {"network": f"{family}Generator", "latent": shape.latent, **common, **own[kind]}
    critic = {"network": f"{family}Critic", **common, **own[kind]}
    if kind in ("mlp", "conv"):
        critic["leak"] = shape.leak
    if kind == "mlp":
        generator["bounded"] = images
    if kind == "resnet":
        generator["skip"] = shape.skip
    return {"generator": generator, "critic": critic, "spectral": shape.spectral}


def scaled(x: Tensor, levels: int | None) -> Tensor:
    """Levels 0..levels-1 to [-1, 1]; real numbers stay."""
    return x if levels is None else 2 * x / (levels - 1) - 1


def seen(data: Data, rows: Sequence[int] | np.ndarray | slice) -> Tensor:
    """Return rows as a GAN sees them: less ``centre``, over ``spread``; or levels on [-1, 1]."""
    x = data.batch(rows)
    return x if data.centre is not None else scaled(x, data.levels)


def shown(x: Tensor) -> Tensor:
    """Images in [-1, 1] as levels 0..255, for :func:`experiments.image_samples.write_grid`."""
    return (127.5 * (x + 1)).clamp(0, 255)


def standardised(data: Data) -> Data:
    """Return tables in columns of mean 0 and deviation 1, and real-valued images in [-1, 1].

    The moments of the columns, or the smallest and largest number of all images, are computed in
    float64 and become ``centre`` and ``spread``. Images of levels stay as they are, see
    :func:`scaled`.

    Raises:
        InputError: the numbers are too large for their squares to be finite.
    """
    if data.kind == "images" and data.levels is not None:
        return data
    if data.kind == "images":
        low, high = float(data.values.min()), float(data.values.max())
        centre, spread = np.array(low / 2 + high / 2), np.array(high / 2 - low / 2)
    else:
        centre, spread = _moments(data.values)
    if not np.isfinite(spread).all():
        raise InputError(f"{data.name}: the numbers are too large, up to {np.abs(data.values).max():.3g}; rescale them")
    return replace(data, centre=centre, spread=np.where(spread > 0, spread, 1.0), given=None)


def restored(x: Tensor, data: Data) -> np.ndarray:
    """Return what a GAN makes in the numbers of its data, the inverse of :func:`seen`.

    Levels are whole numbers 0..levels-1 as uint8, others have the units and the dtype of the data.
    """
    numbers = x.double().cpu().numpy()
    if data.centre is not None and data.spread is not None:
        numbers = numbers * data.spread + data.centre
    elif data.levels is not None:
        numbers = (numbers + 1) / 2 * (data.levels - 1)
    if data.levels is not None:
        return np.clip(np.round(numbers), 0, data.levels - 1).astype(np.uint8)
    return numbers.astype(data.values.dtype)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 means and deviations of the columns; of a constant one its number and 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        table = np.asarray(values, np.float64)
        constant = table.min(0) == table.max(0)
        mean = np.where(constant, table[0], table.mean(0))
        return mean, np.where(constant, 0.0, table.std(0))


def in_units_of(data: Data, run: Run | None) -> Data:
    """Return data in the units of a run, or in their own for a run that is yet to start.

    A run of version 0.1.0, without a record of its data, has real-valued images as they are.
    """
    if run is None:
        return standardised(data)
    record = run.data_record()
    if not record:
        return data if data.kind == "images" else standardised(data)
    units = without_rows(record["data"])
    return replace(data, centre=units.centre, spread=units.spread, given=None)


class GanRun:
    """What the commands that use a trained GAN share; ``average``: the generator's moving average, if it has one."""

    def __init__(self, path: Path, device: str = "auto", checkpoint: str = "best", average: bool = True) -> None:
        self.run = Run.open(path)
        if self.run.config.get("command") != "train-gan":
            raise InputError(f"{path} is not the run of a GAN; give the --out of train-gan")
        self.device, folder = pick_device(device), self.run.checkpoint(checkpoint)
        described = read_json(path / "model.json")
        with reading(path / "model.json"):
            self.players = Players(described)
        load_weights(self.players, folder / "model.safetensors")
        state = read_json(folder / "state.json")
        with reading(folder / "state.json"):
            self.step = int(state["step"])
        training = load_state(folder / "optimizer.pt")
        self.has_average = "weights" in training
        if self.has_average and not average:
            fill_weights(self.players, training["weights"], folder / "optimizer.pt")
        self.players.to(self.device).eval()

    def units(self) -> Data:
        """Return kind, shape and units of the data; a run of version 0.1.0 has to read them anew."""
        record = self.run.data_record()
        if record:
            return without_rows(record["data"])
        return in_units_of(read(self.run.config["data"]), self.run)

    @property
    def classes(self) -> int:
        """The number of labels that the networks take; 0 for none."""
        return self.players.generator.classes

    @torch.no_grad()
    def sample(self, z: Tensor, labels: Tensor | None = None, rows: int = 256) -> Tensor:
        """Generated data of latents (N, d), on the CPU."""
        generator = self.players.generator
        if self.classes and labels is None:
            labels = torch.arange(len(z)) % self.classes
        parts = z.split(rows)
        given = labels.split(rows) if labels is not None else [None] * len(parts)
        made = [
            generator(part.to(self.device), *((y.to(self.device),) if y is not None else ()))
            for part, y in zip(parts, given, strict=True)
        ]
        return torch.cat(made).float().cpu()
