"""How many bytes a graph keeps for its backward pass, and a budget of them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["Budget"]


class Budget:
    """Graphs that may be kept within a number of bytes; what the weights take counts for nothing.

    A graph's size is known once it is built. The largest so far stands for the next.
    """

    def __init__(self, limit: int, weights: Iterable[Tensor]) -> None:
        self.limit = limit
        self.used = 0
        self.largest = 0
        self.saved = 0
        self._weights = (
            {weight.untyped_storage().data_ptr() for weight in weights} if limit > 0 else set()
        )

    @property
    def room(self) -> bool:
        """Whether the next graph may fit."""
        return self.limit > 0 and self.used + self.largest <= self.limit

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Find what the graphs built inside save, shared storage once."""
        found: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            storage = x.untyped_storage()
            if storage.data_ptr() not in self._weights:
                found[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            yield
        self.saved = sum(found.values())

    def take(self) -> bool:
        """Enter the graph just measured, if it fits."""
        self.largest = max(self.largest, self.saved)
        fits = self.used + self.saved <= self.limit
        self.used += self.saved if fits else 0
        return fits
