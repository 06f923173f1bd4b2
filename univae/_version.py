"""The version of the library, without importing the library."""

import configparser
from importlib import metadata
from pathlib import Path

__all__ = ["__version__", "version"]


def version() -> str:
    """Return the installed version, or that of ``setup.cfg`` in a source tree not installed."""
    try:
        return metadata.version("univae")
    except metadata.PackageNotFoundError:
        settings = configparser.ConfigParser()
        settings.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
        return settings.get("metadata", "version", fallback="unknown")


__version__ = version()
