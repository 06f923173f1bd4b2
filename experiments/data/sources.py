"""Names of data, and of code that an option imports: as users give them, and as run folders keep them."""

import os
from collections.abc import Collection

__all__ = ["names_code", "resolved"]


def resolved(source: str, built_in: Collection[str] = ()) -> str:
    """Return a data source as an absolute path, so that it means the same file from every folder.

    Built-in names and the empty string stay as they are.
    """
    if not source or source in built_in:
        return source
    return os.path.abspath(source)


def names_code(value: object) -> bool:
    """Return whether an option names Python code to import, ``package.module:name``."""
    return isinstance(value, str) and ":" in value
