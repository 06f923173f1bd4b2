r"""Attention whose entropy does not drift with the number of keys.

The entropy of a softmax row should not drift with the number :math:`n` of keys it sees. Scaling the
scores by :math:`\ln n / \ln 512` holds it nearly constant for scores of moderate spread; it is a
heuristic between the exact laws of two models: :math:`\sqrt{\ln n}` for independent scores,
:math:`\ln n` for a fixed gap between what is relevant and what is not.

References:
    Entropy-invariant softmax attention (Su, 2021), https://kexue.fm/archives/8823 and /9034; the
    clip /9706
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Scale", "entropy_scale"]


Scale = Literal["sqrt", "log_n", "log_n_clip"]

_SCALES = get_args(Scale)


def entropy_scale(
    n: Int[Tensor, "*rows"], scale: Scale = "log_n", base: int = 512
) -> Float[Tensor, "*rows"]:
    r"""Return the factor on a row's scores: :math:`\ln n / \ln b`, or :math:`\max(1, \ln n / \ln b)` for the clip.

    ``log_n`` equals plain attention at :math:`n = b`. ``log_n_clip`` is for weights trained without
    the factor: with ``base`` the training length it changes nothing up to that length. float32, or
    float64 where that is the default dtype.

    >>> entropy_scale(torch.tensor([1, 64, 512, 4096]))
    tensor([0.0000, 0.6667, 1.0000, 1.3333])
    """
    factor = n.to(torch.promote_types(torch.get_default_dtype(), torch.float32)).log() / math.log(
        base
    )
    return factor.clamp_min(1) if scale == "log_n_clip" else factor
