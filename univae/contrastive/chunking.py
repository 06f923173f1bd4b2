"""Cuts a batch into chunks: of so many rows, of so many tokens, each padded for itself, or as the caller cut it."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, SupportsIndex, TypeAlias

import torch
from torch import Tensor

from univae.errors import InputError

__all__ = ["Chunker", "Collate", "by_tokens", "cut"]

# Maps a column of items to groups of their places; every item is in one group.
Chunker: TypeAlias = Callable[[Any], Sequence[Sequence[int]]]

# Makes what an encoder takes of a list of items.
Collate: TypeAlias = Callable[[list[Any]], Any]


def by_tokens(tokens: int, length: Callable[[Any], int] = len) -> Chunker:
    """Group items of like length, such that no group passes ``tokens`` once it is padded to its longest.

    An item longer than ``tokens`` makes a group of its own. Within a group and among groups lengths
    ascend.

    >>> by_tokens(6)(["aaa", "b", "cc", "d"])
    [[1, 3, 2], [0]]
    """
    if tokens < 1:
        raise InputError(f"by_tokens: a chunk must hold at least one token; got tokens={tokens}")

    def chunker(items: Sequence[Any]) -> list[list[int]]:
        lengths = [length(item) for item in items]
        groups: list[list[int]] = []
        for place in sorted(range(len(lengths)), key=lengths.__getitem__):
            if not groups or (len(groups[-1]) + 1) * lengths[place] > tokens:
                groups.append([])
            groups[-1].append(place)
        return groups

    return chunker


def cut(
    column: Any, chunk_size: SupportsIndex | Chunker | None, collate: Collate | None
) -> list[tuple[Any, Sequence[int] | None]]:
    """Return the chunks, and the rows of the column that each holds; None where the caller cut the chunks.

    With ``collate`` the column is a sequence of items; without, nested tuples, lists and mappings
    of tensors whose rows are the items, and whatever else they hold is in every chunk.
    """
    if chunk_size is None:
        chunks = list(column)
        _require(len(chunks) > 0, "the batch holds no chunk; leave it out")
        return [(chunk if collate is None else collate(chunk), None) for chunk in chunks]
    count = len(column) if collate is not None else _rows(column)
    _require(count > 0, "the batch holds no row; leave it out")
    groups: list[Sequence[int]]
    if isinstance(chunk_size, SupportsIndex):
        size = operator.index(chunk_size)
        _require(size > 0, f"a chunk must hold at least one row; got chunk_size={chunk_size}")
        groups = [range(start, min(start + size, count)) for start in range(0, count, size)]
    else:
        groups = [list(group) for group in chunk_size(column)]
        whole = sorted(place for group in groups for place in group) == list(range(count))
        _require(
            whole and all(groups),
            f"the groups must hold each of the {count} rows once, and none be empty",
        )
    if collate is not None:
        return [(collate([column[place] for place in group]), group) for group in groups]
    return [(_take(column, _index(group)), group) for group in groups]


def _index(group: Sequence[int]) -> slice | Tensor:
    return slice(group.start, group.stop) if isinstance(group, range) else torch.tensor(group)


def _take(thing: Any, index: slice | Tensor) -> Any:
    if isinstance(thing, Tensor) and thing.ndim:
        return thing[index if isinstance(index, slice) else index.to(thing.device)]
    if isinstance(thing, Mapping):
        return {name: _take(part, index) for name, part in thing.items()}
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        return type(thing)(*(_take(part, index) for part in thing))
    return (
        type(thing)(_take(part, index) for part in thing)
        if isinstance(thing, list | tuple)
        else thing
    )


def _rows(column: Any) -> int:
    counts = set(_lengths(column))
    _require(len(counts) > 0, "the batch holds no tensor; give collate= for a sequence of items")
    _require(
        len(counts) == 1,
        f"all tensors of a batch must have as many rows; they have {sorted(counts)}",
    )
    return counts.pop()


def _lengths(thing: Any) -> Iterator[int]:
    if isinstance(thing, Tensor) and thing.ndim:
        yield len(thing)
    elif isinstance(thing, Mapping | list | tuple):
        for part in thing.values() if isinstance(thing, Mapping) else thing:
            yield from _lengths(part)


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise InputError(f"cached_backward: {rule}")
