r"""Scales of attention scores, among them those that keep the entropy of a row nearly constant.

The entropy of a softmax row grows with the number :math:`n` of keys that it sees. Scaling the
scores by :math:`\ln n / \ln 512` keeps it nearly constant for scores of moderate spread. This is a
heuristic between the exact results of two models: :math:`\sqrt{\ln n}` for independent scores,
:math:`\ln n` for a fixed gap between relevant and irrelevant keys.

References:
    Entropy-invariant softmax attention (Su, 2021), https://kexue.fm/archives/8823 and /9034; the
    clip /9706
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from univae.registry import lookup

__all__ = ["SCALES", "Scale", "ScoreScale", "entropy_scale"]


@dataclass(frozen=True)
class ScoreScale:
    r"""A factor on the scores of a row beside :math:`1 / \sqrt D`.

    ``factor(log_n)`` maps :math:`\log_b n` to the factor; ``None`` stands for 1.
    """

    summary: str
    factor: Callable[[Tensor], Tensor] | None


SCALES = {
    "sqrt": ScoreScale("1 / sqrt(head width)", None),
    "log_n": ScoreScale(
        "also ln(keys) / ln(base), so that entropy does not grow with length", lambda log_n: log_n
    ),
    "log_n_clip": ScoreScale(
        "as log_n beyond base keys, as sqrt up to them",
        lambda log_n: log_n.clamp_min(1),
    ),
}

if TYPE_CHECKING:
    Scale: TypeAlias = str
else:
    Scale = Literal[tuple(SCALES)]


def entropy_scale(
    n: Int[Tensor, "*rows"], scale: Scale = "log_n", base: int = 512
) -> Float[Tensor, "*rows"]:
    r"""Return the factor on the scores of rows that see ``n`` keys.

    It is :math:`\ln n / \ln b` for ``log_n``, which equals plain attention at :math:`n = b`, and
    :math:`\max(1, \ln n / \ln b)` for ``log_n_clip``, which is for weights trained without the
    factor: with ``base`` the training length it changes nothing up to that length. The result is
    float32, or float64 where that is the default dtype.

    >>> entropy_scale(torch.tensor([1, 64, 512, 4096]))
    tensor([0.0000, 0.6667, 1.0000, 1.3333])
    """
    dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
    log_n = n.to(dtype).log() / math.log(base)
    factor = lookup(SCALES, scale, "entropy_scale: scale").factor
    return torch.ones_like(log_n) if factor is None else factor(log_n)
