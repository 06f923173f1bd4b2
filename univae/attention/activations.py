"""Activations of the two-layer networks in a Transformer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "Activation", "ActivationKind"]


@dataclass(frozen=True)
class ActivationKind:
    """An activation, as a function and as a module."""

    summary: str
    function: Callable[[Tensor], Tensor]
    module: Callable[[], nn.Module]


ACTIVATIONS = {
    "gelu": ActivationKind("x times the normal distribution function of x", F.gelu, nn.GELU),
    "gelu_tanh": ActivationKind(
        "its approximation by tanh",
        partial(F.gelu, approximate="tanh"),
        partial(nn.GELU, approximate="tanh"),
    ),
    "relu": ActivationKind("the larger of x and 0", F.relu, nn.ReLU),
    "silu": ActivationKind("x times its logistic function", F.silu, nn.SiLU),
}

if TYPE_CHECKING:
    Activation: TypeAlias = str
else:
    Activation = Literal[tuple(ACTIVATIONS)]
