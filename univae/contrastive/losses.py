r"""Losses that tell a query's own key from the keys of all others, and the exact way to accumulate their gradients.

.. math:: L = \frac1B \sum_i \Bigl( \log \sum_j e^{\beta \, q_i \cdot k_j} - \beta \, q_i \cdot k_i \Bigr)

Every row of the batch is a negative of every other, so a mean over parts of the batch is a
different loss, and the gradient cannot be accumulated part by part: :func:`cached_backward` can.
The vectors are taken as they are; give unit vectors for cosines. All is computed in at least
float32, also under autocast.

References:
    Representation Learning with Contrastive Predictive Coding (van den Oord et al., 2018),
    arXiv:1807.03748 SimBERT v2, RoFormer-Sim (Su, 2021), https://kexue.fm/archives/8454; CoSENT
    (Su, 2022), https://kexue.fm/archives/8847 Contrastive learning with gradient accumulation (Su,
    2021), https://kexue.fm/archives/8471
"""

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from univae.contrastive.all_gather import Share
from univae.contrastive.all_gather import gather as gather_rows
from univae.contrastive.tiled_softmax import Candidates, log_partition
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["cosent", "info_nce", "paired_info_nce", "partners"]


def info_nce(
    queries: Float[Tensor, "batch d"],
    keys: Float[Tensor, "batch d"],
    scale: float | Float[Tensor, ""] = 20.0,
    *,
    symmetric: bool = False,
    negatives: Float[Tensor, "*negatives d"] | None = None,
    groups: Int[Tensor, "batch"] | None = None,
    negative_groups: Int[Tensor, "*negatives"] | None = None,
    rows: int | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean cross-entropy in nats of picking key i for query i among all keys and all ``negatives``.

    Args:
        scale: the inverse temperature :math:`\beta`, a number or a tensor to learn.
        symmetric: the mean of that and of picking query i for key i among all queries, as CLIP
            does.
        negatives: further keys that are nobody's own; every query sees all of them.
        groups: what query i and key i are about. Other keys of a query's group are false negatives,
            and left out.
        negative_groups: the same for ``negatives``; without it they are in nobody's group.
        rows: computes the scores in tiles of so many rows and columns, forward and backward: no
            matrix of B x B is
            held, and there is no second derivative.
        gather: the keys of all processes are the negatives of each. The result is this process's
            share, such that the
            *mean over processes* is the loss of the whole batch; distributed training takes that
            mean.

    Raises:
        InputError: for an empty batch, vectors that do not match in shape, or fewer than one row a
            tile.

    References:
        Learning Transferable Visual Models (CLIP; Radford et al., 2021),
        https://arxiv.org/abs/2103.00020
    """
    _require("info_nce", queries, rows)
    if queries.shape != keys.shape:
        shapes = f"{tuple(queries.shape)} and {tuple(keys.shape)}"
        raise InputError(
            f"info_nce: queries and keys must have one shape; got {shapes}; further keys are negatives="
        )
    if negative_groups is not None and (negatives is None or groups is None):
        raise InputError(
            "info_nce: negative_groups needs negatives and groups; give all three or leave it out"
        )
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys, beta = *_widen(queries, keys), _factor(scale, queries)
        share = Share.of(queries, gather)
        targets = share.places(queries)
        ids = None if groups is None else share.gather(groups)
        seen = share.gather(keys)
        known = ids
        if negatives is not None:
            others = negatives.flatten(0, -2).to(keys.dtype)
            seen = torch.cat((seen, gather_rows(others) if gather else others))
            known = _with_negatives(ids, negative_groups, len(seen), gather)
        loss = _nce(queries, seen, beta, Candidates(targets, None, _both(groups, known)), rows)
        if symmetric:
            back = Candidates(targets, None, _both(groups, ids))
            loss = (loss + _nce(keys, share.gather(queries), beta, back, rows)) / 2
        return share.mean(loss)


def paired_info_nce(
    vectors: Float[Tensor, "rows d"],
    scale: float | Float[Tensor, ""] = 20.0,
    *,
    groups: Int[Tensor, "rows"] | None = None,
    rows: int | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean cross-entropy in nats of picking row i's partner, i XOR 1, among all other rows: the loss of RoFormer-Sim.

    Rows 2i and 2i + 1 are partners, and no row sees itself, so a row has B - 2 negatives. The other
    arguments are those of :func:`info_nce`. All rows equal give :math:`\ln(B - 1)`.

    Raises:
        InputError: for an odd number of rows, none, or fewer than one row a tile.
    """
    _require("paired_info_nce", vectors, rows)
    if len(vectors) % 2:
        raise InputError(
            f"paired_info_nce: rows 2i and 2i + 1 are partners, so there must be an even number; got {len(vectors)}"
        )
    with torch.autocast(vectors.device.type, enabled=False):
        vectors = at_least_float32(vectors)
        share = Share.of(vectors, gather)
        selves = share.places(vectors)
        # Every process before this one holds an even number of rows, so partners stay i XOR 1.
        known = None if groups is None else share.gather(groups)
        candidates = Candidates(selves ^ 1, selves, _both(groups, known))
        return share.mean(
            _nce(vectors, share.gather(vectors), _factor(scale, vectors), candidates, rows)
        )


def partners(count: int) -> Int[Tensor, "count"]:
    """Whose partner each row is: i XOR 1.

    >>> partners(4)
    tensor([1, 0, 3, 2])
    """
    return torch.arange(count) ^ 1


def cosent(
    scores: Float[Tensor, "pairs"],
    labels: Real[Tensor, "pairs"],
    scale: float | Float[Tensor, ""] = 20.0,
) -> Float[Tensor, ""]:
    r"""Return :math:`\log (1 + \sum_{y_p > y_q} e^{\beta (c_q - c_p)})` in nats: a higher label, a higher score.

    ``scores`` holds one similarity per pair of texts, such as a cosine, and not a matrix. Sorted by
    label, the inner sum over q is a cumulative one: O(B log B) time and O(B) memory.

    Raises:
        InputError: for labels that are not finite.

    References:
        CoSENT (Su, 2022), https://kexue.fm/archives/8847
    """
    if not labels.isfinite().all():
        raise InputError(
            "cosent: labels must be finite, or they have no order; leave out the pairs without one"
        )
    with torch.autocast(scores.device.type, enabled=False):
        scores = at_least_float32(scores)
        ordered, order = labels.sort()
        s = _factor(scale, scores) * scores[order]
        below = torch.searchsorted(ordered, ordered)  # how many pairs are labelled lower
        first = int((below == 0).sum())  # those of the lowest label have none
        lower = s.logcumsumexp(0)[below[first:] - 1]
        return torch.cat((s.new_zeros(1), lower - s[first:])).logsumexp(0)


def _nce(
    queries: Tensor, keys: Tensor, beta: Tensor, candidates: Candidates, rows: int | None
) -> Tensor:
    own = beta * (queries * keys[candidates.targets]).sum(-1)
    return log_partition(queries, keys, beta, candidates, rows) - own


def _with_negatives(
    ids: Tensor | None, given: Tensor | None, count: int, gather: bool
) -> Tensor | None:
    if ids is None:
        return None
    if given is None:
        return torch.cat((ids, (ids.min() - 1).expand(count - len(ids))))
    given = given.flatten()
    return torch.cat((ids, gather_rows(given) if gather else given))


def _both(groups: Tensor | None, known: Tensor | None) -> tuple[Tensor, Tensor] | None:
    return None if groups is None or known is None else (groups, known)


def _widen(*vectors: Tensor) -> tuple[Tensor, ...]:
    dtype = torch.float32
    for x in vectors:
        dtype = torch.promote_types(dtype, x.dtype)
    return tuple(x.to(dtype) for x in vectors)


def _factor(scale: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(scale, dtype=like.dtype, device=like.device)


def _require(who: str, vectors: Tensor, rows: int | None) -> None:
    if len(vectors) == 0:
        raise InputError(f"{who}: a batch must hold at least one row; got none")
    if rows is not None and rows < 1:
        raise InputError(f"{who}: a tile must hold at least one row; got rows={rows}")
