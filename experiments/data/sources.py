"""Sources of data and code that options name: absolute paths, suffixes, names of Python code.

The command line imports this module before it sets up torch, so it imports no numerical library.
"""

import os
from collections.abc import Collection
from pathlib import Path

__all__ = ["INPUTS", "has_suffix", "names_code", "resolved"]

INPUTS = "inputs"  # the subfolder of a run that holds decoded images


def has_suffix(path: Path, *suffixes: str) -> bool:
    """Return whether a file's name ends in one of ``suffixes``, in upper or lower case."""
    return path.suffix.lower() in suffixes


def resolved(source: str, built_in: Collection[str] = ()) -> str:
    """Return a data source as an absolute path, which names the same file from every folder.

    Built-in names and the empty string stay as they are.
    """
    if not source or source in built_in:
        return source
    return os.path.abspath(source)


def names_code(value: object) -> bool:
    """Return whether an option names Python code to import, ``package.module:name``."""
    return isinstance(value, str) and ":" in value
