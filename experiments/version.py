"""The library's version, without importing the library."""

from pathlib import Path

__all__ = ["version"]


def version() -> str:
    """The installed version.

    In a source tree that is not installed, the one its ``setup.cfg`` declares.
    """
    import configparser  # here, so that other uses of the command line do not wait for them
    from importlib import metadata

    try:
        return metadata.version("univae")
    except metadata.PackageNotFoundError:
        settings = configparser.ConfigParser()
        settings.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
        return settings.get("metadata", "version", fallback="unknown")
