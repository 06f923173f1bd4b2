"""Registries: mappings from names to objects that implement what the name selects.

A registry is a plain dictionary, for example ``FAMILIES``. Differences between rows are
attributes or methods of their objects, so no other module compares names. A new row is one
object and one entry; options, their rules and their help are read from the dictionary:

.. code-block:: python

    if TYPE_CHECKING:
        FamilyName: TypeAlias = str
    else:
        FamilyName = Literal[tuple(FAMILIES)]  # read by the command line and the rules

    @dataclass(frozen=True)
    class Config:
        latent: Annotated[FamilyName, Doc(choices_help("distribution of a latent", FAMILIES))]
"""

from collections.abc import Mapping
from typing import Protocol, TypeVar, runtime_checkable

from univae.errors import InputError

__all__ = ["Entry", "choices_help", "lookup"]

Row = TypeVar("Row")


@runtime_checkable
class Entry(Protocol):
    """A row of a registry."""

    @property
    def summary(self) -> str:
        """A description of a few words, for the help of an option."""
        ...


def choices_help(meaning: str, registry: Mapping[str, Entry]) -> str:
    """Return the help of an option whose choices are the rows of ``registry``."""
    rows = "; ".join(
        f"{name}: {entry.summary}" for name, entry in registry.items() if entry.summary
    )
    return f"{meaning}; {rows}" if rows else meaning


def lookup(registry: Mapping[str, Row], name: str, who: str) -> Row:
    """Return the row ``name`` of ``registry``.

    Raises:
        InputError: there is no such row; the message starts with ``who``, the option or the
            function, and lists the rows.
    """
    if name not in registry:
        raise InputError(f"{who} must be one of {', '.join(registry)}; got {name!r}")
    return registry[name]
