"""The library's version, without importing the library."""

from univae._version import version

__all__ = ["version"]
