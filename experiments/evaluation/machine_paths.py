"""Paths of this machine in what a run stores, replaced before the run is given to others."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from univae.checkpoint import JsonObject, JsonValue

__all__ = ["without_machine_paths"]

# Options that name files and folders, of which only the last part is kept.
PATHS = (
    "cache",
    "data",
    "from_run",
    "init_from",
    "out",
    "pairs",
    "teacher",
    "text",
    "validation",
)
HUB = "hub:"  # before the name of a public data set
NAMED = ("source", "notes")  # of an entry of data.json, where files are named


def without_machine_paths(config: JsonObject, record: JsonObject) -> tuple[JsonObject, JsonObject]:
    """Return ``config.json`` and ``data.json`` with names of files in place of their paths.

    The values of options that name files, and all that are absolute paths, are replaced, and so are
    their occurrences in a note on the data. Values of the data, such as categories, are not
    changed.

    Args:
        config: the configuration of a run.
        record: its data record; empty if it has none.
    """
    configured: dict[str, str] = {}
    for name, value in config.items():
        configured.update(_last_parts(value) if name in PATHS else _names(value))
    new_config = {name: _named(value, configured) for name, value in config.items()}
    new_record = {}
    for name, entry in record.items():
        sources = str(entry.get("source", "")).split(", ")  # of several files
        paths = configured | _names(sources)
        changed = {key: _replaced(entry[key], paths) for key in NAMED if key in entry}
        new_record[name] = {**entry, **changed}
    return new_config, new_record


def _named(value: JsonValue, paths: Mapping[str, str]) -> JsonValue:
    """Return a value of an option, or a list of them, as the name that ``paths`` has for it."""
    if isinstance(value, list):
        return [_named(entry, paths) for entry in value]
    return paths.get(value, value) if isinstance(value, str) else value


def _last_parts(value: JsonValue) -> dict[str, str]:
    """Return the last part of every path among texts, relative ones included."""
    texts: Sequence[object] = value if isinstance(value, list) else [value]
    names = {}
    for text in texts:
        if isinstance(text, str) and not text.startswith(HUB):
            name = _last_part(text) or PurePosixPath(text).name
            if name and name != text:
                names[text] = name
    return names


def _replaced(value: JsonValue, paths: Mapping[str, str]) -> JsonValue:
    """Return a text, or a list, in which absolute paths are names; any other value as it is.

    ``paths`` are replaced inside of texts as well.
    """
    if isinstance(value, list):
        return [_replaced(entry, paths) for entry in value]
    if not isinstance(value, str):
        return value
    for path, name in sorted({**_names(value), **paths}.items(), key=_length, reverse=True):
        value = value.replace(path, name)
    return value


def _length(item: tuple[str, str]) -> int:
    return len(item[0])


def _names(value: JsonValue) -> dict[str, str]:
    """Return the last part of every absolute path among texts: a text, or a list of them."""
    texts: Sequence[object] = value if isinstance(value, list) else [value]
    names = {}
    for text in texts:
        if isinstance(text, str):
            name = _last_part(text)
            if name:
                names[text] = name
    return names


def _last_part(text: str) -> str:
    """Return the last part of an absolute path, of any system; nothing of another text."""
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        if path.is_absolute():
            return path.name
    return ""
