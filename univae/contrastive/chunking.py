"""Chunks of a batch: by a number of rows, by a number of tokens, or by the caller.

A padded chunk computes as many tokens as its longest item times its items. Chunks of equal tokens
hold many short items or a few long ones, so that little is padding and every chunk takes as much
memory.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import NamedTuple, SupportsIndex, TypeAlias, cast

import torch
from torch import Tensor

from univae.errors import InputError

__all__ = ["Chunker", "Collate", "Inputs", "Length", "by_mean_tokens", "by_tokens", "cut"]

MOST_ROWS = 8  # of a group by tokens, over the mean

# Maps a column to groups of row indices; every row is in one group.
Chunker: TypeAlias = Callable[..., Sequence[Sequence[int]]]

# Maps an item to its tokens, or to those of its parts, which are padded separately.
Length: TypeAlias = Callable[..., int | tuple[int, ...]]

# Maps a list of items to the inputs of an encoder.
Collate: TypeAlias = Callable[..., object]


class Inputs(NamedTuple):
    """The inputs of an encoder for some rows of a column."""

    values: object
    rows: Sequence[int] | None  # None where the column is a sequence of chunks


def by_tokens(tokens: int, length: Length = len) -> Chunker:
    """Return a chunker of groups that have at most ``tokens`` ids each, padding included.

    An item longer than ``tokens`` is a group by itself. Lengths ascend within a group and from
    group to group.

    Raises:
        InputError: ``tokens`` is less than 1.

    >>> by_tokens(6)(["aaa", "b", "cc", "d"])
    [[1, 3, 2], [0]]
    """
    if tokens < 1:
        raise InputError(f"by_tokens: a chunk must hold at least one token; got tokens={tokens}")

    def chunker(items: Sequence[object]) -> list[list[int]]:
        return _groups_of_tokens([_parts(length(item)) for item in items], tokens)

    return chunker


def by_mean_tokens(rows: int, length: Length | None = None) -> Chunker:
    """Return a chunker of groups that have as many tokens as ``rows`` items have on average.

    Items of one length are in groups of ``rows``, in their order, and at most ``rows`` items of any
    lengths are one group; otherwise see :func:`by_tokens`. No group has more than
    :data:`MOST_ROWS` times as many, for what an encoder computes for each item.

    Args:
        rows: items of a group, on average.
        length: tokens of an item. By default its ``len``, of a mapping that of its longest value,
            and 1 for an item without one. Give it where ``len`` is no cost, as of names of files.

    Raises:
        InputError: ``rows`` is less than 1.

    >>> by_mean_tokens(2)(["aaa", "b", "cc", "d"])
    [[1, 3], [2], [0]]
    """
    if rows < 1:
        raise InputError(f"by_mean_tokens: a chunk must hold at least one row; got rows={rows}")
    tokens_of = _length if length is None else length

    def chunker(items: Sequence[object]) -> list[list[int]]:
        if 0 < len(items) <= rows:
            return [list(range(len(items)))]
        parts = [_parts(tokens_of(item)) for item in items]
        total = sum(map(sum, parts))
        tokens = -(-rows * total // max(len(parts), 1))
        return _groups_of_tokens(parts, tokens, MOST_ROWS * rows)

    return chunker


def _groups_of_tokens(
    parts: Sequence[tuple[int, ...]], tokens: int, most: int | None = None
) -> list[list[int]]:
    """Return groups of at most ``tokens`` and ``most`` items whose parts have these lengths.

    The lengths of the first part ascend, then those of the second: sorted by their sum, a group
    would hold short first parts beside long ones.
    """
    groups: list[list[int]] = []
    widths: tuple[int, ...] = ()  # of the last group
    for row in sorted(range(len(parts)), key=parts.__getitem__):
        widened = tuple(map(max, widths or parts[row], parts[row]))
        size = len(groups[-1]) + 1 if groups else 1
        is_full = size * sum(widened) > tokens or (most is not None and size > most)
        if not groups or is_full:
            groups.append([])
            widened = parts[row]
        groups[-1].append(row)
        widths = widened
    return groups


def _parts(length: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return the lengths of an item's parts, at least one token together."""
    parts = length if isinstance(length, tuple) else (length,)
    return parts if sum(parts) else (1, *parts[1:])


def _length(item: object) -> int:
    if isinstance(item, Mapping):
        return max(map(_length, item.values()), default=1)
    try:
        return len(cast("Sized", item))
    except TypeError:  # a number, or a tensor without dimensions
        return 1


def cut(
    column: object, chunk_size: SupportsIndex | Chunker | None, collate: Collate | None
) -> list[Inputs]:
    """Return the inputs of every chunk of a column.

    With ``collate`` the column is a sequence of items, and a number of rows is a mean: see
    :func:`by_mean_tokens`. Without, it is nested tuples, lists and mappings of tensors that share
    their first dimension; other values are in every chunk.

    Raises:
        InputError: the column is empty, its tensors have different lengths, or the groups are not a
            partition of the rows.
    """
    if chunk_size is None:
        chunks = list(cast("Sequence[object]", column))
        _require("the batch must hold at least one chunk; got none; skip it", holds=len(chunks) > 0)
        return [Inputs(chunk if collate is None else collate(chunk), None) for chunk in chunks]

    if collate is None:
        groups = _groups(column, _row_count(column), chunk_size)
        return [Inputs(_take(column, _index(group)), group) for group in groups]
    items = cast("Sequence[object]", column)
    chunker = chunk_size
    if isinstance(chunk_size, SupportsIndex):
        chunker = by_mean_tokens(_row_number(chunk_size))
    groups = _groups(items, len(items), chunker)
    return [Inputs(collate([items[row] for row in group]), group) for group in groups]


def _groups(column: object, count: int, chunk_size: SupportsIndex | Chunker) -> list[Sequence[int]]:
    _require("the batch must hold at least one row; got none; skip it", holds=count > 0)
    if isinstance(chunk_size, SupportsIndex):
        size = _row_number(chunk_size)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]
    groups: list[Sequence[int]] = [list(group) for group in chunk_size(column)]
    rows = sorted(row for group in groups for row in group)
    rule = f"the groups must hold each of the {count} rows once, and none may be empty"
    _require(rule, holds=rows == list(range(count)) and all(groups))
    return groups


def _row_number(chunk_size: SupportsIndex) -> int:
    size = operator.index(chunk_size)
    _require(f"a chunk must hold at least one row; got chunk_size={chunk_size}", holds=size > 0)
    return size


def _index(group: Sequence[int]) -> slice | Tensor:
    return slice(group.start, group.stop) if isinstance(group, range) else torch.tensor(group)


def _take(value: object, index: slice | Tensor) -> object:
    """Return the rows ``index`` of all tensors in a nested value."""
    if isinstance(value, Tensor):
        if not value.ndim:
            return value
        return value[index if isinstance(index, slice) else index.to(value.device)]
    if isinstance(value, Mapping):
        return {name: _take(element, index) for name, element in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        named_tuple = cast("Callable[..., object]", type(value))
        return named_tuple(*(_take(element, index) for element in value))
    if isinstance(value, list | tuple):
        return type(value)(_take(element, index) for element in value)
    return value


def _row_count(column: object) -> int:
    counts = set(_row_counts(column))
    rule = "the batch must hold a tensor; got none; give collate= for a sequence of items"
    _require(rule, holds=len(counts) > 0)
    rule = f"all tensors of a batch must have as many rows; they have {sorted(counts)}"
    _require(rule, holds=len(counts) == 1)
    return counts.pop()


def _row_counts(value: object) -> Iterator[int]:
    if isinstance(value, Tensor):
        if value.ndim:
            yield len(value)
    elif isinstance(value, Mapping):
        for element in value.values():
            yield from _row_counts(element)
    elif isinstance(value, list | tuple):
        for element in value:
            yield from _row_counts(element)


def _require(rule: str, *, holds: bool) -> None:
    if not holds:
        raise InputError(f"cached_backward: {rule}")
