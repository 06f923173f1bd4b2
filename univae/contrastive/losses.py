r"""Contrastive losses over a batch.

.. math:: L = \frac1B \sum_i \Bigl( \log \sum_j e^{s_{ij}} - s_{ii} \Bigr), \qquad
    s_{ij} = \beta \, q_i \cdot k_j

Every row of the batch is a negative of every other, so a mean over chunks of the batch is a
different loss, and its gradient cannot be accumulated chunk by chunk;
:func:`univae.contrastive.cached_backward` accumulates it exactly. The vectors are not normalised:
unit vectors give cosines. Losses are computed in at least float32, also under autocast.

References:
    Representation Learning with Contrastive Predictive Coding (van den Oord et al., 2018),
    https://arxiv.org/abs/1807.03748
    SimBERT v2, RoFormer-Sim (Su, 2021), https://kexue.fm/archives/8454
    Contrastive learning with gradient accumulation (Su, 2021), https://kexue.fm/archives/8471
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from univae.contrastive.all_gather import Share
from univae.contrastive.all_gather import gather as gather_rows
from univae.contrastive.tiled_softmax import Candidates, log_partition
from univae.dtypes import autocast
from univae.errors import InputError

__all__ = ["info_nce", "paired_info_nce", "partners"]


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
    r"""Return the mean cross-entropy in nats of picking key i for query i among all keys.

    Args:
        queries: one vector a row.
        keys: key i belongs to query i.
        scale: the inverse temperature :math:`\beta`, a number or a tensor to learn.
        symmetric: return the mean of that and of picking query i for key i among all queries, as
            CLIP does.
        negatives: further keys, negatives of every query.
        groups: the group, such as a topic, of query i and key i. Other keys of a query's group are
            false negatives and are excluded.
        negative_groups: the groups of ``negatives``; by default they are in no query's group.
        rows: compute the scores in tiles of so many rows and columns, forward and backward: no
            matrix of B x B is allocated, and there is no second derivative.
        gather: use the keys of all processes as negatives of each. The result is this process's
            share: its *mean over processes*, which distributed training takes, is the loss of the
            whole batch.

    Raises:
        InputError: an empty batch, vectors of different shapes, or fewer than one row a tile.

    References:
        Learning Transferable Visual Models (CLIP; Radford et al., 2021),
        https://arxiv.org/abs/2103.00020
    """
    _require_rows("info_nce", queries, rows)
    _require_match(queries, keys)
    if negative_groups is not None and (negatives is None or groups is None):
        raise InputError(
            "info_nce: negative_groups needs negatives and groups; give all three, or omit it"
        )
    with autocast(queries.device, enabled=False):
        queries, keys = _promoted(queries, keys)
        beta = _as_tensor(scale, queries)
        share = Share.of(queries, gather=gather)
        targets = share.indices(queries)
        all_keys = share.gather(keys)
        key_groups = None if groups is None else share.gather(groups)
        reverse_candidates = Candidates(targets, None, _group_pair(groups, key_groups))
        if negatives is not None:
            negative_keys = negatives.flatten(0, -2).to(keys.dtype)
            all_keys = torch.cat(
                (all_keys, gather_rows(negative_keys) if gather else negative_keys)
            )
            if negative_groups is not None and gather:
                negative_groups = gather_rows(negative_groups.flatten())
            key_groups = _with_negatives(key_groups, negative_groups, len(all_keys))
        candidates = Candidates(targets, None, _group_pair(groups, key_groups))
        loss = _cross_entropy(queries, all_keys, beta, candidates, rows)
        if symmetric:
            reverse_loss = _cross_entropy(
                keys, share.gather(queries), beta, reverse_candidates, rows
            )
            loss = (loss + reverse_loss) / 2
        return share.mean(loss)


def paired_info_nce(
    vectors: Float[Tensor, "rows d"],
    scale: float | Float[Tensor, ""] = 20.0,
    *,
    groups: Int[Tensor, "rows"] | None = None,
    rows: int | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Return the mean cross-entropy in nats of picking row i's partner among all other rows.

    The loss of RoFormer-Sim. Rows 2i and 2i + 1 are partners; a row has B - 2 negatives. All rows
    equal give :math:`\ln(B - 1)`.

    Args:
        vectors: one vector a row.
        scale: the inverse temperature.
        groups: the group of every row; see :func:`info_nce`.
        rows: rows and columns of a tile; see :func:`info_nce`.
        gather: use the rows of all processes; see :func:`info_nce`.

    Raises:
        InputError: an odd number of rows, none, or fewer than one row a tile.
    """
    _require_rows("paired_info_nce", vectors, rows)
    if len(vectors) % 2:
        raise InputError(
            "paired_info_nce: rows 2i and 2i + 1 are partners, so there must be an even number; "
            f"got {len(vectors)}"
        )
    with autocast(vectors.device, enabled=False):
        (vectors,) = _promoted(vectors)
        share = Share.of(vectors, gather=gather)
        # Every process before this one has an even number of rows, so partners stay i XOR 1.
        indices = share.indices(vectors)
        key_groups = None if groups is None else share.gather(groups)
        candidates = Candidates(indices ^ 1, indices, _group_pair(groups, key_groups))
        beta = _as_tensor(scale, vectors)
        return share.mean(_cross_entropy(vectors, share.gather(vectors), beta, candidates, rows))


def partners(count: int) -> Int[Tensor, "count"]:
    """Return the index of every row's partner: i XOR 1.

    >>> partners(4)
    tensor([1, 0, 3, 2])
    """
    return torch.arange(count) ^ 1


def _cross_entropy(
    queries: Tensor, keys: Tensor, beta: Tensor, candidates: Candidates, rows: int | None
) -> Float[Tensor, "queries"]:
    target_scores = beta * (queries * keys[candidates.targets]).sum(-1)
    return log_partition(queries, keys, beta, candidates, rows) - target_scores


def _with_negatives(
    key_groups: Tensor | None, negative_groups: Tensor | None, count: int
) -> Tensor | None:
    """Return the groups of all ``count`` keys; negatives without a group form a new one."""
    if key_groups is None:
        return None
    if negative_groups is not None:
        return torch.cat((key_groups, negative_groups.flatten()))
    unused_group = key_groups.min() - 1
    return torch.cat((key_groups, unused_group.expand(count - len(key_groups))))


def _group_pair(
    query_groups: Tensor | None, key_groups: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    if query_groups is None or key_groups is None:
        return None
    return query_groups, key_groups


def _promoted(*vectors: Tensor) -> tuple[Tensor, ...]:
    """Return the vectors in one dtype, at least float32."""
    dtype = torch.float32
    for x in vectors:
        dtype = torch.promote_types(dtype, x.dtype)
    return tuple(x.to(dtype) for x in vectors)


def _as_tensor(scale: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(scale, dtype=like.dtype, device=like.device)


def _require_match(queries: Tensor, keys: Tensor) -> None:
    if queries.shape != keys.shape:
        shapes = f"{tuple(queries.shape)} and {tuple(keys.shape)}"
        raise InputError(
            f"info_nce: queries and keys must have one shape; got {shapes}; "
            "pass further keys as negatives="
        )


def _require_rows(who: str, vectors: Tensor, rows: int | None) -> None:
    if len(vectors) == 0:
        raise InputError(f"{who}: a batch must hold at least one row; got none")
    if rows is not None and rows < 1:
        raise InputError(f"{who}: a tile must hold at least one row; got rows={rows}")
