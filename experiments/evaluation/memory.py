"""How many rows and samples fit into memory at once."""

from typing import Protocol, runtime_checkable

import density

__all__ = ["POSITIONS", "Written", "data_at_once", "draws_at_once"]

POSITIONS = 16_384  # decoded at once where an image is written word by word: bounds the memory


@runtime_checkable
class Written(Protocol):
    """A model whose decoder writes a datum position by position."""

    @property
    def positions(self) -> int: ...


def data_at_once(model: density.LatentModel, most: int, draws: int = 16) -> int:
    """How many data fit into memory with so many draws each, at most ``most``.

    A refined posterior takes 16.
    """
    return (
        min(most, max(1, POSITIONS // (draws * model.positions)))
        if isinstance(model, Written)
        else most
    )


def draws_at_once(model: density.LatentModel, count: int) -> int | None:
    """How many draws of ``count`` data each fit into memory.

    None where the estimator may choose.
    """
    return max(1, POSITIONS // (count * model.positions)) if isinstance(model, Written) else None
