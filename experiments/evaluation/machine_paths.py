"""Paths of this machine in what a run stores, replaced before the run is given to others."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from univae.checkpoint import JsonObject, JsonValue

__all__ = ["without_machine_paths"]

NAMED = ("source", "notes")  # of an entry of data.json, where files are named


def without_machine_paths(config: JsonObject, record: JsonObject) -> tuple[JsonObject, JsonObject]:
    """Return ``config.json`` and ``data.json`` with names of files in place of absolute paths.

    A value that is an absolute path is one, and so is its occurrence in a note on the data. Values
    of the data, such as categories, are not changed.

    Args:
        config: the configuration of a run.
        record: its data record; empty if it has none.
    """
    new_config = {name: _replaced(value, {}) for name, value in config.items()}
    configured: dict[str, str] = {}
    for value in config.values():
        configured.update(_names(value))
    new_record = {}
    for name, entry in record.items():
        sources = str(entry.get("source", "")).split(", ")  # of several files
        paths = configured | _names(sources)
        changed = {key: _replaced(entry[key], paths) for key in NAMED if key in entry}
        new_record[name] = {**entry, **changed}
    return new_config, new_record


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
