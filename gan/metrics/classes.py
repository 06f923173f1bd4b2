"""Classes and modes of generated rows: how many occur, and how far their shares are from real ones.

References:
    VEEGAN (Srivastava et al., 2017), https://arxiv.org/abs/1705.07761, for the count of modes
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from univae.errors import InputError

__all__ = ["Classes", "Modes", "class_coverage", "mode_coverage"]

# A class counts as present from this fraction of its real share on.
PRESENT_DIVISOR = 5


class Classes(NamedTuple):
    """The classes that a classifier predicts of generated rows."""

    found: int  # classes with at least a fifth of their real share
    shares: tuple[float, ...]
    kl_nats: float  # from the generated shares to the real ones


class Modes(NamedTuple):
    """The modes of generated rows, of a known number of equally likely ones."""

    found: int  # modes with at least one generated row
    # from the generated shares to equal ones; of N fair draws of M modes (M - 1) / 2N on average
    kl_nats: float


def class_coverage(predicted: Int[Tensor, "n"], real: Int[Tensor, "m"]) -> Classes:
    r"""Count the predicted classes of generated rows, against the labels of real rows.

    ``kl_nats`` is :math:`\sum_c p_c \log (p_c / q_c)` from generated shares p to real shares q, and
    infinite for a class without real rows.

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
    r"""Count the modes 0..modes-1 that occur.

    ``kl_nats`` is :math:`\sum_c p_c \log (M p_c)` from their shares p.

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
        raise InputError(f"{who}: needs at least one label; got none; generate more")
