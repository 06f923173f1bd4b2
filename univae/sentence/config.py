"""The configuration of a RoFormer-Sim."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from typing_extensions import Doc

from univae.attention.core import require_head_width
from univae.attention.scaling import Scale
from univae.attention.transformer import Norm
from univae.registry import choices_help
from univae.rules import SIZE, Rule, at_least, check, within
from univae.sentence.pooling import POOLINGS, PoolingName
from univae.text.special import RESERVED

__all__ = ["RoFormerSimConfig"]


@dataclass(frozen=True)
class RoFormerSimConfig:
    """The configuration of a RoFormer-Sim, from which a stored model is rebuilt."""

    vocab_size: int  # number of the tokenizer's ids; the model has one more, the mask
    width: int = 256  # features of a Transformer row; an even multiple of --heads
    heads: int = 4  # attention heads of each block
    layers: int = 4  # Transformer blocks
    max_length: int = 64  # most tokens of a sentence, its end token included
    dropout: float = 0.0  # share of activations zeroed in training
    attention_dropout: float = 0.0  # share of attention weights zeroed in training
    scale: Scale = "sqrt"  # of attention scores; log_n also by ln n / ln base of the n keys seen
    scale_base: int = 512  # the number of keys at which log_n equals sqrt
    norm: Norm = "pre"  # layer norms before each branch, or after each residual sum, as published
    pooling: Annotated[
        PoolingName, Doc(choices_help("what a sentence's vector is read from", POOLINGS))
    ] = "mean"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "vocab_size": at_least(RESERVED + 1, 10**7),
        "width": at_least(1, SIZE),
        "heads": at_least(1, 1024),
        "layers": at_least(1, 1024),
        "scale_base": at_least(2, 10**9),
        "max_length": at_least(2, 65_536, "at least 2, a token and the end token"),
        "dropout": within("[0, 1)"),
        "attention_dropout": within("[0, 1)"),
    }

    def __post_init__(self) -> None:
        check(self)
        require_head_width(self.width, self.heads)
