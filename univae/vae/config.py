"""The configuration of a UniVAE."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from typing_extensions import Doc

from univae.attention.core import require_head_width
from univae.attention.norms import NORMS, Norm
from univae.attention.scaling import SCALES, Scale
from univae.errors import InputError
from univae.latent.families import FAMILIES, FamilyName
from univae.latent.family import Family
from univae.registry import choices_help
from univae.rules import SIZE, Rule, above, at_least, check, within
from univae.text.special import RESERVED

__all__ = ["PRIORS", "UniVAEConfig"]


@dataclass(frozen=True)
class PriorKind:
    """A choice of prior: ``learned`` from the stack of layers, or fixed by the latent family."""

    summary: str
    learned: bool


PRIORS = {
    "standard": PriorKind("that of the latent family", learned=False),
    "learned": PriorKind("computed by the same layers without a text", learned=True),
}

if TYPE_CHECKING:
    PriorName: TypeAlias = str
else:
    PriorName = Literal[tuple(PRIORS)]


@dataclass(frozen=True)
class UniVAEConfig:
    """The configuration of a UniVAE, from which the same model is built again."""

    vocab_size: int  # number of token ids
    width: int = 128  # of a Transformer row; a multiple of 2 heads
    heads: int = 4  # of each attention layer
    layers: int = 4  # Transformer blocks
    latent_layers: int = 2  # number of last layers with a latent each
    latent_width: int = 16  # dimensions of each latent
    latent: Annotated[FamilyName, Doc(choices_help("distribution of a latent", FAMILIES))] = (
        "gaussian"
    )
    kappa: float = 32.0  # vmf: concentration of the posterior, or its initial value
    learn_kappa: bool = False  # vmf: train the concentration of each latent layer
    prior: Annotated[PriorName, Doc(choices_help("prior of the latents", PRIORS))] = "standard"
    scale: Annotated[Scale, Doc(choices_help("scale of attention scores", SCALES))] = "sqrt"
    scale_base: int = 512  # the number of keys at which log_n equals sqrt
    norm: Annotated[Norm, Doc(choices_help("position of the layer norms", NORMS))] = "pre"
    max_length: int = 64  # most tokens of a text, its end token included
    dropout: float = 0.0  # share of activations zeroed in training
    attention_dropout: float = 0.0  # share of attention weights zeroed in training
    word_dropout: float = 0.0  # share of decoder inputs blanked in training; raises the KL
    bn_gamma: float = 0.0  # gaussian: fixed scale of batch-normalised means (BN-VAE); 0: off

    RULES: ClassVar[Mapping[str, Rule]] = {
        "vocab_size": at_least(RESERVED + 1, 10**7),
        "width": at_least(1, SIZE),
        "heads": at_least(1, 1024),
        "layers": at_least(1, 1024),
        "latent_layers": at_least(1, 1024),
        "latent_width": at_least(1, SIZE),
        "kappa": above(0, 1e6),
        "scale_base": at_least(2, 10**9),
        "max_length": at_least(1, 65_536),
        "dropout": within("[0, 1)"),
        "attention_dropout": within("[0, 1)"),
        "word_dropout": within("[0, 1]"),
        "bn_gamma": at_least(0, 1e3, "0 (off) or more"),
    }

    def __post_init__(self) -> None:
        check(self)
        require_head_width(self.width, self.heads)
        if not 1 <= self.latent_layers <= self.layers:
            raise InputError(
                f"UniVAEConfig: latent_layers must lie in 1..layers={self.layers}; "
                f"got latent_layers={self.latent_layers}"
            )
        self.family.check(self, "UniVAEConfig")

    @property
    def family(self) -> Family:
        """The family of the latents' distributions."""
        return FAMILIES[self.latent]

    @property
    def learned_prior(self) -> bool:
        """Whether the network computes the prior."""
        return PRIORS[self.prior].learned
