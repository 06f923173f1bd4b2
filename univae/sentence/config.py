"""The configuration of a RoFormer-Sim."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from typing_extensions import Doc

from univae.attention.activations import ACTIVATIONS, Activation
from univae.attention.core import require_head_width
from univae.attention.norms import NORMS, Norm
from univae.attention.rotary import BASE
from univae.attention.scaling import SCALES, Scale
from univae.attention.variant import VARIANT, VARIANT_RULES
from univae.registry import choices_help
from univae.rules import SIZE, Rule, at_least, check, within
from univae.sentence.pooling import POOLINGS, PoolingName
from univae.text.special import RESERVED

__all__ = ["RoFormerSimConfig"]


@dataclass(frozen=True)
class RoFormerSimConfig:
    """The configuration of a RoFormer-Sim, from which a stored model is rebuilt."""

    vocab_size: int  # number of the tokenizer's ids; the model has one more, the mask
    width: int = 256  # features of a position; a multiple of twice --heads
    heads: int = 4  # attention heads per layer
    layers: int = 4  # Transformer layers
    max_length: int = 64  # most tokens of a sentence, its end token included; longer ones are cut
    # share of activations set to 0 in training; raise it if the validation loss rises
    dropout: float = 0.0
    attention_dropout: float = 0.0  # share of attention weights set to 0 in training
    scale: Annotated[Scale, Doc(choices_help("scale of attention scores", SCALES))] = "sqrt"
    scale_base: int = 512  # with --scale log_n: number of keys at which it equals sqrt
    norm: Annotated[Norm, Doc(choices_help("position of the layer norms", NORMS))] = "pre"
    pooling: Annotated[
        PoolingName, Doc(choices_help("rows that a sentence's vector is computed from", POOLINGS))
    ] = "mean"
    activation: Annotated[
        Activation, Doc(choices_help("activation of the two-layer networks", ACTIVATIONS))
    ] = "gelu"
    norm_eps: float = 1e-5  # added to the variance in layer norms; RoFormer and BERT have 1e-12
    inner_width: int = 0  # width inside the two-layer networks; 0: four times --width
    # width of the table of tokens, which is projected to --width and back; 0: --width
    embedding_width: int = 0
    # base of rotary positions; larger: slower turns, for longer texts
    rotary_base: float = BASE

    NEWER: ClassVar[frozenset[str]] = VARIANT
    RULES: ClassVar[Mapping[str, Rule]] = {
        "vocab_size": at_least(RESERVED + 1, 10**7),
        "width": at_least(1, SIZE),
        "heads": at_least(1, 1024),
        "layers": at_least(1, 1024),
        "scale_base": at_least(2, 10**9),
        "max_length": at_least(2, 65_536, "at least 2, a token and the end token"),
        "dropout": within("[0, 1)"),
        "attention_dropout": within("[0, 1)"),
        **VARIANT_RULES,
    }

    def __post_init__(self) -> None:
        check(self)
        require_head_width(self.width, self.heads)
