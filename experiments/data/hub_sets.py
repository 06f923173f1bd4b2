"""Data sets of the Hugging Face hub: ``hub:NAME[:SPLIT]``.

``NAME`` may also be a local folder of data files, which the same library reads.
"""

from pathlib import Path
from typing import Any

from experiments.data.sources import HUB
from univae.errors import InputError

__all__ = ["SPLIT", "is_hub", "load_split", "name_and_split"]

SPLIT = "train"  # where none is named
PARTS = 2  # name, split
LONGEST_REASON = 160  # characters of the library's message


def is_hub(source: str) -> bool:
    """Return whether a source begins with ``hub:`` and is no file or folder."""
    return source.startswith(HUB) and not Path(source).exists()


def name_and_split(source: str) -> tuple[str, str]:
    """Return the parts of ``hub:NAME`` or ``hub:NAME:SPLIT``.

    Raises:
        InputError: there is no name, or more than two parts.
    """
    parts = source.removeprefix(HUB).split(":")
    if not parts[0] or len(parts) > PARTS:
        raise InputError(f"{source}: give hub:NAME or hub:NAME:SPLIT")
    return parts[0], parts[1] if len(parts) > 1 else SPLIT


def load_split(source: str, name: str, split: str) -> Any:
    """Return a split of a data set, downloaded if it is not on this machine.

    Raises:
        InputError: the library is missing, or the data set cannot be loaded; the message starts
            with ``source``.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(f"{source}: needs the extra hub: pip install 'univae[hub]'") from error
    try:
        return load_dataset(name, split=split)
    except Exception as error:  # the library raises many classes, also those of its own parts
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        raise InputError(f"{source}: cannot be loaded ({reason}); check name and split") from error
