"""The bytes that an autograd graph saves for its backward pass, and a limit on their sum."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["GraphMemory"]


class GraphMemory:
    """A budget of ``limit`` bytes for the tensors that kept graphs save for their backward pass.

    Storage of ``weights`` does not count. The size of a graph can be measured only after it is
    built, so the largest one so far is the estimate for the next.
    """

    def __init__(self, limit: int, weights: Iterable[Tensor]) -> None:
        self.limit = limit
        self.used_bytes = 0
        self.largest_bytes = 0
        self.graph_bytes = 0
        self._weights: set[int] = set()
        if limit > 0:
            self._weights = {weight.untyped_storage().data_ptr() for weight in weights}

    @property
    def has_room(self) -> bool:
        """Whether the next graph is expected to be within the limit."""
        return self.limit > 0 and self.used_bytes + self.largest_bytes <= self.limit

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure the graphs that are built in the block; shared storage counts once."""
        bytes_of_storage: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            storage = x.untyped_storage()
            if storage.data_ptr() not in self._weights:
                bytes_of_storage[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            yield
        self.graph_bytes = sum(bytes_of_storage.values())

    def reserve(self) -> bool:
        """Add the graph that was just measured if the limit allows, and return whether it does."""
        self.largest_bytes = max(self.largest_bytes, self.graph_bytes)
        fits = self.used_bytes + self.graph_bytes <= self.limit
        if fits:
            self.used_bytes += self.graph_bytes
        return fits
