"""Updates in chunks that fit into a CPU's cache, with scratch memory that all chunks share."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["Scratch", "cache_chunks"]

CHUNK_ELEMENTS = 2**19  # parameters of a chunk on a CPU: they and their state fit into its cache


class Scratch:
    """Buffers for intermediate results, reused from chunk to chunk.

    On a CPU the page faults of new buffers cost more than the update itself.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def copy(self, tensors: Sequence[Tensor], buffer: int = 0) -> list[Tensor]:
        """Return copies of tensors of one dtype and device, valid until ``buffer`` is reused."""
        sizes = [x.numel() for x in tensors]
        first = tensors[0]
        key = (buffer, first.device, first.dtype)
        if key not in self._buffers or self._buffers[key].numel() < sum(sizes):
            self._buffers[key] = first.new_empty(sum(sizes))
        flat_copies = self._buffers[key][: sum(sizes)].split(sizes)
        copies = [flat.view(x.shape) for flat, x in zip(flat_copies, tensors, strict=True)]
        torch._foreach_copy_(copies, list(tensors))
        return copies


def cache_chunks(params: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the parameters in chunks of at most :data:`CHUNK_ELEMENTS`; on a GPU, all in one.

    A larger parameter is a chunk by itself.
    """
    chunk: list[Tensor] = []
    size = 0
    for p in params:
        if chunk and p.is_cpu and size + p.numel() > CHUNK_ELEMENTS:
            yield chunk
            chunk = []
            size = 0
        chunk.append(p)
        size += p.numel()
    if chunk:
        yield chunk
