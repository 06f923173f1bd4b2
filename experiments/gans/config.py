"""Options of a GAN: its two networks, its training recipe, and both networks as one module."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from experiments.data.arrays import Data
from gan.augment import Change
from gan.config import Recipe
from gan.losses import LossName
from gan.networks.registry import build
from gan.normalization.spectral import spectral_normalize
from gan.penalties import PENALTY, Normalization, Penalties
from univae.errors import InputError
from univae.rules import SIZE, Rule, at_least, check, each, within

__all__ = ["GanOptions", "GanShape", "Players", "model_config"]


@dataclass(frozen=True, kw_only=True)
class GanShape:
    """The two networks."""

    # auto: conv for images, mlp for tables
    network: Literal["auto", "mlp", "conv", "resnet", "attention"] = "auto"
    latent: int = 64
    width: int = 32  # channels of conv and resnet, features of attention
    hidden: tuple[int, ...] = (128, 128, 128)  # of mlp
    leak: float = 0.1  # slope of the critic's activations left of 0, of mlp and conv
    heads: int = 4  # of attention, as the next two
    layers: int = 2
    patch: int = 4
    skip: bool = False  # each block of resnet gets a share of the latent, as in BigGAN
    conditional: bool = False  # both networks see the labels
    # of the critic: of reshaped weights, or of convolutions
    spectral: Literal["no", "reshaped", "exact"] = "no"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "latent": at_least(1, SIZE),
        "width": at_least(1, SIZE),
        "hidden": each(at_least(1, SIZE)),
        "leak": within("[0, 1]"),
        "heads": at_least(1, 1024),
        "layers": at_least(1, 1024),
        "patch": at_least(1, 1024),
    }

    def __post_init__(self) -> None:
        check(self)


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
    # weight of the score's change where a real image moves by up to an eighth; 5 is usual
    consistency: float = 0.0
    lazy: int = 1  # r1 and r2 only every so many critic steps
    n_critic: int = 1  # critic steps per generator step; --steps counts the generator's
    generator_ratio: int = 1  # a generator's batch over a critic's
    generator_lr: float = 0.0  # 0: --lr, which is the critic's
    rescale: bool = True  # of gn: hold the size of the critic's weights
    augment: tuple[Change, ...] = ()  # DiffAugment: color, translation, cutout
    flip: bool = False  # real images are mirrored half of the time
    # half-life of the generator's average, in images it trained on; 0: no average
    ema_images: float = 10_000.0
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
            **{
                name: getattr(self, name)
                for name in ("lazy", "n_critic", "generator_ratio", "rescale", "augment")
            },
            bf16=bf16,
            clip=clip,
        )


class Players(nn.Module):
    """A generator and its critic, as one module."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.generator = build(config["generator"])
        self.critic = build(config["critic"])
        if config["spectral"] != "no":
            sample = torch.zeros(2, *self.critic.shape)
            labels = torch.zeros(2, dtype=torch.long) if self.critic.classes else None
            spectral_normalize(
                self.critic, sample if config["spectral"] == "exact" else None, labels
            )


def model_config(shape: GanShape, data: Data, classes: int) -> dict[str, Any]:
    """What :class:`Players` takes; plain values."""
    images = len(data.shape) == 3
    if shape.conditional and not classes:
        raise InputError(
            f"conditional needs labels 0, 1, ...; {data.name} has none; drop it, or give labels"
        )
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
