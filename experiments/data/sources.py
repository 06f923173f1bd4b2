"""Sources of data and code that options name: absolute paths, suffixes, names of Python code.

The command line imports this module before it sets up torch, so it imports no numerical library.
"""

import os
from collections.abc import Collection
from pathlib import Path

__all__ = ["HUB", "INPUTS", "has_suffix", "names_code", "resolved", "size_on_disk"]

HUB = "hub:"  # begins the name of a data set of the Hugging Face hub
INPUTS = "inputs"  # the subfolder of a run that holds decoded images


def has_suffix(path: Path, *suffixes: str) -> bool:
    """Return whether a file's name ends in one of ``suffixes``, in upper or lower case."""
    return path.suffix.lower() in suffixes


def resolved(source: str, built_in: Collection[str] = ()) -> str:
    """Return a data source as an absolute path, which names the same file from every folder.

    Built-in names, URLs and the empty string stay as they are, and names of data sets of a hub,
    unless they are folders here.
    """
    if not source or source in built_in or "://" in source:
        return source
    if source.startswith(HUB) and not os.path.exists(source):
        name, *others = source.removeprefix(HUB).split(":")
        path = os.path.abspath(name) if os.path.isdir(name) else name
        return HUB + ":".join([path, *others])
    return os.path.abspath(source)


def names_code(value: object) -> bool:
    """Return whether an option names Python code to import, ``package.module:name``."""
    return isinstance(value, str) and ":" in value


def size_on_disk(source: str, otherwise: int) -> int:
    """Return the bytes of a file; ``otherwise`` for the name of a built-in set."""
    path = Path(source)
    return path.stat().st_size if path.is_file() else otherwise
