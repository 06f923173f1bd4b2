"""Updates in blocks that fit into a CPU's cache, with scratch memory that all blocks share.

An update of several operations reads and writes memory once a block, not once an operation.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["Scratch", "cache_blocks", "cache_chunks", "is_plain", "memory_views"]

# Parameters of a chunk for each thread of a CPU: with their gradients, averages and scratch memory
# they fit into its caches. Smaller chunks cost more in calls than they save in memory traffic.
THREAD_ELEMENTS = 2**18

PLAIN_TYPES = (Tensor, nn.Parameter)  # whose elements lie in this process's memory

ChunkKey: TypeAlias = tuple[torch.device, torch.dtype, bool]


class Scratch:
    """Buffers for intermediate results, reused from block to block.

    On a CPU the page faults of new buffers cost more than the update itself.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def copy(self, tensors: Sequence[Tensor], buffer: int = 0) -> tuple[Tensor, list[Tensor]]:
        """Return copies of tensors of one dtype and device, valid until ``buffer`` is reused.

        They are one tensor of one dimension, on which an operation costs one call, and its views
        in the shapes of ``tensors``.
        """
        sizes = [x.numel() for x in tensors]
        first = tensors[0]
        key = (buffer, first.device, first.dtype)
        if key not in self._buffers or self._buffers[key].numel() < sum(sizes):
            self._buffers[key] = first.new_empty(sum(sizes))
        flat = self._buffers[key][: sum(sizes)]
        views = []
        for piece, x in zip(flat.split_with_sizes(sizes), tensors, strict=True):
            views.append(piece if x.ndim == 1 else piece.view(x.shape))
        torch._foreach_copy_(views, list(tensors))
        return flat, views


def cache_chunks(params: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the parameters in chunks of one device and dtype; on a GPU, all of a dtype in one.

    On a CPU a chunk fits into the cache, or is a larger parameter by itself. No chunk has both
    plain tensors and others.
    """
    limit = _chunk_elements()
    chunks: dict[ChunkKey, list[Tensor]] = {}
    sizes: dict[ChunkKey, int] = {}
    for p in params:
        key = (p.device, p.dtype, type(p) in PLAIN_TYPES)
        chunk = chunks.setdefault(key, [])
        size = sizes.get(key, 0) + p.numel()
        if size > limit and chunk and p.is_cpu:
            yield chunk
            chunk = []
            chunks[key] = chunk
            size = p.numel()
        chunk.append(p)
        sizes[key] = size
    yield from chunks.values()


def cache_blocks(columns: Sequence[list[Tensor]]) -> Iterator[Sequence[list[Tensor]]]:
    """Yield the columns of a chunk as they are, or in blocks that fit into the cache of a CPU.

    Columns are lists of tensors in the same order: parameters, their gradients, each of their
    averages. Tensors of any but the usual order in memory become views of one dimension, and a
    parameter that is larger than a chunk is divided: elementwise operations on the blocks are those
    on the columns.
    """
    limit = _chunk_elements()
    first = columns[0][0]
    is_large = first.is_cpu and first.numel() > limit
    if not is_large and is_plain(columns):
        yield columns
        return
    rows: list[Sequence[Tensor]] = []
    for row in zip(*columns, strict=True):
        views = memory_views(row)
        rows.append(row if views is None else views)
    if is_large and is_plain(rows):
        for pieces in zip(*(x.split(limit) for x in rows[0]), strict=True):
            yield [[piece] for piece in pieces]
    else:
        yield [list(column) for column in zip(*rows, strict=True)]


def is_plain(columns: Iterable[Iterable[Tensor]]) -> bool:
    """Return whether the elements of all tensors are in this process's memory, in usual order."""
    for column in columns:
        for x in column:
            if type(x) not in PLAIN_TYPES or not x.is_contiguous():
                return False
    return True


def memory_views(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """Return views of one dimension, in the order of memory, of tensors of one shape.

    Return None where that order differs between them, or where their memory has gaps or overlaps,
    or is not this process's alone (a DTensor).
    """
    first = tensors[0]
    strides = first.stride()
    order = sorted(range(first.ndim), key=lambda dim: -strides[dim])
    views = []
    for x in tensors:
        if type(x) not in PLAIN_TYPES:
            return None
        ordered = x.permute(order)
        if not ordered.is_contiguous():
            return None
        views.append(ordered.view(-1))
    return views


def _chunk_elements() -> int:
    return THREAD_ELEMENTS * torch.get_num_threads()
