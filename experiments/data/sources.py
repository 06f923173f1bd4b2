"""Sources of data and code as options name them, and as run folders keep them: absolute paths.

The command line imports this module before it sets up torch, so it imports no numerical library.
"""

import os
from collections.abc import Collection

__all__ = ["names_code", "resolved"]


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
