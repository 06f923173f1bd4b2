"""The interface of a proposal of importance sampling."""

from collections.abc import Iterator
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution

from density.model import LatentModel

__all__ = ["Draws", "Proposal", "chunk_sizes"]

# z (k, B, *E) and its log-density (k, B), chunk by chunk
Draws: TypeAlias = Iterator[tuple[Tensor, Tensor]]


@runtime_checkable
class Proposal(Protocol):
    """A source of latents with their log-density."""

    @property
    def replicates(self) -> int:
        """The number of groups of draws that are independent of each other."""
        ...

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield exactly ``samples`` draws a datum, at most ``chunk`` at a time.

        ``q`` is the posterior of ``x``.
        """
        ...


def chunk_sizes(samples: int, chunk: int) -> Iterator[int]:
    """Yield the sizes of chunks of at most ``chunk`` that add up to ``samples``."""
    for start in range(0, samples, chunk):
        yield min(chunk, samples - start)
