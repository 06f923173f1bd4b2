"""Poolings of the rows of a sentence into one vector.

The published model pools the first row, after pre-training. From random weights the mean of the
rows learns sooner.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["POOLINGS", "Pooling", "PoolingName"]

Norm: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pooling:
    """A function of the rows, the mask of rows that are not padding, and the layer norm."""

    summary: str
    pool: Callable[[Tensor, Tensor, Norm], Tensor]


def _first(
    rows: Float[Tensor, "batch rows width"], _: Bool[Tensor, "batch rows"], norm: Norm
) -> Float[Tensor, "batch width"]:
    return norm(rows[:, 0])


def _mean(
    rows: Float[Tensor, "batch rows width"], real: Bool[Tensor, "batch rows"], norm: Norm
) -> Float[Tensor, "batch width"]:
    weights = (real / real.sum(1, keepdim=True)).to(rows)
    return (weights[:, None] @ norm(rows)).squeeze(1)


POOLINGS = {
    "first": Pooling("the row of the start token, as published", _first),
    "mean": Pooling("the mean of all rows; learns sooner from random weights", _mean),
}

if TYPE_CHECKING:
    PoolingName: TypeAlias = str
else:
    PoolingName = Literal[tuple(POOLINGS)]
