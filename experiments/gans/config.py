"""Options of ``train-gan``: the two networks, and the training step of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from typing_extensions import Doc

from experiments.data.arrays import Data
from gan.augment import CHANGES, ChangeName
from gan.config import Recipe
from gan.losses import LOSSES, LossName
from gan.networks.layers import OPTION_RULES
from gan.networks.registry import AUTO, NETWORKS, NetworkName, families_with, network_config
from gan.normalization.rules import NORMALIZATIONS, NormalizationName
from gan.normalization.spectral import SPECTRAL_NORMS, SpectralName
from gan.penalties import PENALTIES, Penalties
from gan.players import Players
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import SIZE, Rule, at_least, check, each

__all__ = ["PENALTY_OPTIONS", "GanOptions", "GanShape", "Players", "model_config"]

# Names of options that differ from the names of the rows of PENALTIES.
_OPTION_OF_PENALTY = {"clip": "weight_clip", "cr": "consistency"}
PENALTY_OPTIONS = {name: _OPTION_OF_PENALTY.get(name, name) for name in PENALTIES}


def _network_option(meaning: str, option: str) -> Doc:
    return Doc(f"{meaning}; of {families_with(option)}")


def _penalty_option(name: str) -> Doc:
    return Doc(PENALTIES[name].help)


@dataclass(frozen=True, kw_only=True)
class GanShape:
    """The architecture of generator and critic."""

    network: Annotated[
        NetworkName,
        Doc(choices_help("both networks; auto: conv for images, mlp for tables", NETWORKS)),
    ] = AUTO
    latent: int = 64  # width of the latent, the generator's input
    width: Annotated[
        int, _network_option("channels, or features of a patch; more: slower", "width")
    ] = 32
    hidden: Annotated[tuple[int, ...], _network_option("widths of the hidden layers", "hidden")] = (
        128,
        128,
        128,
    )
    leak: Annotated[
        float, _network_option("slope of the critic's leaky ReLUs below 0; 0: ReLU", "leak")
    ] = 0.1
    heads: Annotated[int, _network_option("attention heads per layer", "heads")] = 4
    layers: Annotated[int, _network_option("attention layers", "layers")] = 2
    patch: Annotated[
        int, _network_option("side of a square patch in pixels; must divide the image", "patch")
    ] = 4
    skip: Annotated[
        bool, _network_option("feed a slice of the latent to each block of the generator", "skip")
    ] = False
    conditional: bool = False  # condition both networks on the labels of the data
    spectral: Annotated[
        SpectralName,
        Doc(choices_help("divide the critic's weights by their spectral norm", SPECTRAL_NORMS)),
    ] = "no"

    RULES: ClassVar[Mapping[str, Rule]] = {
        name: OPTION_RULES[name] for name in ("latent", "width", "leak", "heads", "layers", "patch")
    } | {"hidden": each(at_least(1, SIZE))}

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class GanOptions:
    """The losses, constraints and batches of both networks."""

    loss: Annotated[LossName, Doc(choices_help("loss of both networks", LOSSES))] = "hinge"
    normalization: Annotated[
        NormalizationName,
        Doc(
            choices_help("score computed from the critic f and passed to the loss", NORMALIZATIONS)
        ),
    ] = "gn"
    gran_eps: float = 0.1  # eps of gran; smaller: scores of a flat critic are amplified more
    gradient_bound: float = 1.0  # K of gn and gran: bound of the norm of the score's gradient
    gp: Annotated[float, _penalty_option("gp")] = 0.0
    lp: Annotated[float, _penalty_option("lp")] = 0.0
    r1: Annotated[float, _penalty_option("r1")] = 0.0
    r2: Annotated[float, _penalty_option("r2")] = 0.0
    div: Annotated[float, _penalty_option("div")] = 0.0
    weight_clip: Annotated[float, _penalty_option("clip")] = 0.0
    consistency: Annotated[float, _penalty_option("cr")] = 0.0
    lazy: int = 1  # critic steps per computation of r1 and r2, weighted up as much; more: faster
    n_critic: int = 1  # critic steps per generator step; --steps counts generator steps
    generator_ratio: int = 1  # rows of a generator step over --batch-size
    generator_lr: float = 0.0  # learning rate of the generator; 0: the critic's, --lr
    # with gn: rescale the critic's weights after each step, because its loss ignores their scale
    rescale: bool = True
    augment: Annotated[
        tuple[ChangeName, ...],
        Doc(choices_help("random changes of all images passed to the critic", CHANGES)),
    ] = ()
    flip: bool = False  # mirror each real image with probability 1/2
    # half-life of the generator's moving average, in generated rows of its steps; 0: no average
    ema_images: float = 10_000.0
    batch_size: int = 64  # real rows per critic step and process, and as many generated rows

    RULES: ClassVar[Mapping[str, Rule]] = {
        "gran_eps": Recipe.RULES["eps"],
        "gradient_bound": Recipe.RULES["K"],
        **{PENALTY_OPTIONS[name]: rule for name, rule in Penalties.RULES.items()},
        "lazy": Recipe.RULES["lazy"],
        "n_critic": Recipe.RULES["n_critic"],
        "generator_ratio": Recipe.RULES["generator_ratio"],
        "generator_lr": at_least(0, 1e6, "0 (the critic's) or more"),
        "ema_images": at_least(0, 1e15, "0 (no average) or more"),
        "batch_size": at_least(2, 10**7),
    }

    def __post_init__(self) -> None:
        check(self)
        self.recipe()

    def recipe(self, *, bf16: bool = False, clip: float = 0.0) -> Recipe:
        """Return the recipe of a training step.

        Its ``half_life`` is 0: the training loop averages the generator's weights.
        """
        weights = {name: float(getattr(self, option)) for name, option in PENALTY_OPTIONS.items()}
        return Recipe(
            loss=self.loss,
            normalization=self.normalization,
            eps=self.gran_eps,
            K=self.gradient_bound,
            penalties=Penalties(**weights),
            lazy=self.lazy,
            n_critic=self.n_critic,
            generator_ratio=self.generator_ratio,
            augment=self.augment,
            rescale=self.rescale,
            bf16=bf16,
            clip=clip,
        )


def model_config(shape: GanShape, data: Data, classes: int) -> JsonObject:
    """Return the configuration of both networks for :class:`gan.players.Players`.

    Raises:
        InputError: the networks are conditional, and the data have no class labels.
    """
    if shape.conditional and not classes:
        raise InputError(
            f"conditional needs class labels 0, 1, ...; {data.name} has none; drop --conditional, "
            "or add labels to the data"
        )
    network_classes = classes if shape.conditional else 0
    networks = network_config(shape.network, data.shape, network_classes, vars(shape))
    return {**networks, "spectral": shape.spectral}
