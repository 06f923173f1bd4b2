"""Tensors that are divided over processes (DTensors): each process updates the part it holds.

The class takes long to import, so that its methods are looked up instead.
"""

from collections.abc import Sequence

from torch import Tensor

from univae.optim.cache_chunks import PLAIN_TYPES

__all__ = ["local_part", "local_rows", "whole"]


def local_part(x: Tensor) -> Tensor:
    """Return this process's part of a tensor that is divided over processes, otherwise all."""
    to_local = getattr(x, "to_local", None)
    if to_local is None:
        return x
    part: Tensor = to_local().detach()
    return part


def whole(x: Tensor) -> Tensor:
    """Return a tensor that is divided over processes in full, which all of them must ask for."""
    full_tensor = getattr(x, "full_tensor", None)
    return x if full_tensor is None else full_tensor()


def local_rows(columns: Sequence[list[Tensor]]) -> Sequence[list[Tensor]]:
    """Return the parts of parameters, and of tensors that are divided as they are.

    Args:
        columns: lists of tensors in the same order: parameters, then others, of which those that
            are divided otherwise are copied.
    """
    params = columns[0]
    if all(type(p) in PLAIN_TYPES for p in params):
        return columns
    parts = []
    for column in columns:
        parts.append([local_part(_divided_as(p, x)) for p, x in zip(params, column, strict=True)])
    return parts


def _divided_as(p: Tensor, x: Tensor) -> Tensor:
    """Return ``x`` divided over processes as ``p`` is."""
    placements = getattr(p, "placements", None)
    if getattr(x, "placements", None) == placements:
        return x
    divided: Tensor = x.redistribute(placements=placements)  # type: ignore[attr-defined]
    return divided
