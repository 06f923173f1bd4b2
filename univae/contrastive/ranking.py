r"""A ranking loss over labelled pairs: of two pairs, the one with the higher label scores higher.

References:
    CoSENT (Su, 2022), https://kexue.fm/archives/8847
"""

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from univae.contrastive.all_gather import Share
from univae.devices import any_false, is_readable
from univae.dtypes import at_least_float32, autocast
from univae.errors import InputError

__all__ = ["cosent"]


def cosent(
    scores: Float[Tensor, "pairs"],
    labels: Real[Tensor, "pairs"],
    scale: float | Float[Tensor, ""] = 20.0,
    *,
    groups: Int[Tensor, "pairs"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Return :math:`\log (1 + \sum_{y_p > y_q} e^{\beta (c_q - c_p)})` in nats.

    A higher label asks for a higher score. With pairs sorted by label, the inner sum over q is a
    cumulative one: O(B log B) time and O(B) memory. It is computed in at least float32, also under
    autocast.

    Args:
        scores: one similarity per pair of texts, such as a cosine.
        labels: one number per pair; only their order counts.
        scale: the inverse temperature :math:`\beta`.
        groups: the group of every pair, such as its file; only labels of one group are compared.
        gather: compare the pairs of all processes. Every process returns the loss of the whole
            batch, which is also the *mean over processes* that distributed training takes.

    Raises:
        InputError: labels that are not finite.

    References:
        CoSENT (Su, 2022), https://kexue.fm/archives/8847
    """
    with autocast(scores.device, enabled=False):
        share = Share.of(scores, gather=gather)
        s = share.gather(at_least_float32(scores))
        s = s * torch.as_tensor(scale, dtype=s.dtype, device=s.device)
        y = share.gather(labels)
        if any_false(y.isfinite()):
            raise InputError(
                "cosent: labels must be finite, or they have no order; drop the pairs without one"
            )
        if groups is None:
            gaps = [_gaps(s, y)]
        else:
            members = share.gather(groups)
            gaps = [_gaps(s[members == g], y[members == g]) for g in members.unique()]
        return torch.cat((s.new_zeros(1), *gaps)).logsumexp(0)


def _gaps(s: Float[Tensor, "pairs"], y: Real[Tensor, "pairs"]) -> Float[Tensor, "ordered"]:
    r"""Return :math:`\log \sum_{q: y_q < y_p} e^{s_q - s_p}` of every pair p that has such a q."""
    ordered, order = y.sort()
    s = s[order]
    lower_count = torch.searchsorted(ordered, ordered)  # pairs with a lower label
    if not is_readable(lower_count):  # the number of pairs of the lowest label is not known
        lower = s.logcumsumexp(0)[(lower_count - 1).clamp(min=0)]
        return (lower - s).masked_fill(lower_count == 0, -torch.inf)
    first = int((lower_count == 0).sum())  # pairs of the lowest label have none
    lower = s.logcumsumexp(0)[lower_count[first:] - 1]
    return lower - s[first:]
