"""The configuration of a UniVAE."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from typing_extensions import Doc

from univae.attention.activations import ACTIVATIONS, Activation
from univae.attention.adaptive_head import SOFTMAXES, Softmax
from univae.attention.core import require_head_width
from univae.attention.norms import NORMS, Norm
from univae.attention.rotary import BASE
from univae.attention.scaling import SCALES, Scale
from univae.attention.variant import VARIANT, VARIANT_RULES
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
    """The configuration of a UniVAE, from which a stored model is rebuilt."""

    vocab_size: int  # number of token ids
    width: int = 128  # features of a position; a multiple of twice --heads
    heads: int = 4  # attention heads per layer
    layers: int = 4  # Transformer layers, shared by encoder and decoder
    latent_layers: int = 2  # number of latents, one for each of the last layers
    latent_width: int = 16  # dimensions of each latent
    latent: Annotated[FamilyName, Doc(choices_help("distribution of a latent", FAMILIES))] = (
        "gaussian"
    )
    # with --latent vmf: concentration of the posterior, or its initial value; higher: more nats
    # of KL
    kappa: float = 32.0
    learn_kappa: bool = False  # with --latent vmf: train the concentration of each latent layer
    prior: Annotated[PriorName, Doc(choices_help("prior of the latents", PRIORS))] = "standard"
    scale: Annotated[Scale, Doc(choices_help("scale of attention scores", SCALES))] = "sqrt"
    scale_base: int = 512  # with --scale log_n: number of keys at which it equals sqrt
    norm: Annotated[Norm, Doc(choices_help("position of the layer norms", NORMS))] = "pre"
    softmax: Annotated[Softmax, Doc(choices_help("output distribution", SOFTMAXES))] = "full"
    max_length: int = 64  # most tokens of a text, its end token included; longer ones are left out
    # share of activations set to 0 in training; raise it if the validation loss rises
    dropout: float = 0.0
    attention_dropout: float = 0.0  # share of attention weights set to 0 in training
    # share of decoder inputs blanked in training; raise it if the KL vanishes
    word_dropout: float = 0.0
    # with --latent gaussian: fixed scale of batch-normalised means (BN-VAE), against a vanishing
    # KL; 0: off
    bn_gamma: float = 0.0
    activation: Annotated[
        Activation, Doc(choices_help("activation of the two-layer networks", ACTIVATIONS))
    ] = "gelu"
    norm_eps: float = 1e-5  # added to the variance in layer norms; RoFormer and BERT have 1e-12
    inner_width: int = 0  # width inside the two-layer networks; 0: four times --width
    # width of the table of tokens, which is projected to --width and back; 0: --width
    embedding_width: int = 0
    # base of rotary positions; larger: slower turns, for longer texts
    rotary_base: float = BASE

    NEWER: ClassVar[frozenset[str]] = frozenset({"softmax", *VARIANT})
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
        **VARIANT_RULES,
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
