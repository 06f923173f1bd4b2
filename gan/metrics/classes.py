"""Classes and modes of generated rows: their number, and the divergence from the real shares.

References:
    VEEGAN (Srivastava et al., 2017), https://arxiv.org/abs/1705.07761, for the count of modes
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from univae.errors import InputError

__all__ = ["Classes", "Modes", "class_coverage", "mode_coverage"]

# A class is present if its share is at least its real share over this.
PRESENT_DIVISOR = 5


class Classes(NamedTuple):
    """The predicted classes of generated rows."""

    present: int  # number of classes with at least a fifth of their real share
    shares: tuple[float, ...]  # of each class among the generated rows
    kl_nats: float  # KL divergence of the generated shares from the real ones


class Modes(NamedTuple):
    """The modes of generated rows, where the real modes are equally likely."""

    present: int  # number of modes with at least one generated row
    # KL divergence of the generated shares from equal ones; (M - 1) / 2N on average for N fair
    # draws of M modes
    kl_nats: float


def class_coverage(predicted: Int[Tensor, "n"], real: Int[Tensor, "m"]) -> Classes:
    r"""Count the classes among generated rows, compared with the labels of real rows.

    ``kl_nats`` is :math:`\sum_c p_c \log (p_c / q_c)` of the generated shares p and the real shares
    q, and infinite where a predicted class has no real rows.

    Raises:
        InputError: there are no labels.
    """
    _require_labels("class_coverage", predicted, real)
    classes = int(max(predicted.max(), real.max())) + 1
    p = torch.bincount(predicted, minlength=classes).double() / len(predicted)
    q = torch.bincount(real, minlength=classes).double() / len(real)
    kl = torch.where(p > 0, p * (p / q).log(), 0.0).sum().item()
    is_real = q > 0
    is_present = p[is_real] >= q[is_real] / PRESENT_DIVISOR
    return Classes(int(is_present.sum()), tuple(p.tolist()), kl)


def mode_coverage(predicted: Int[Tensor, "n"], modes: int) -> Modes:
    r"""Count the modes among 0..modes-1 that occur.

    ``kl_nats`` is :math:`\sum_c p_c \log (M p_c)` of their shares p.

    Raises:
        InputError: there are no labels, or one is not below ``modes``.
    """
    _require_labels("mode_coverage", predicted)
    p = torch.bincount(predicted, minlength=modes).double() / len(predicted)
    if len(p) > modes:
        raise InputError(f"mode_coverage: predicted must lie in 0..{modes - 1}; got {len(p) - 1}")
    kl = torch.special.xlogy(p, modes * p).sum().item()
    return Modes(int((p > 0).sum()), kl)


def _require_labels(who: str, *labels: Tensor) -> None:
    if not all(len(tensor) for tensor in labels):
        raise InputError(f"{who}: needs at least one label; got none; generate more rows")
