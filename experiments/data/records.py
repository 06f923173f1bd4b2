"""The record of a data set in ``data.json``, and the absolute paths of its sources."""

import json
from hashlib import blake2b
from pathlib import Path

import numpy as np

from density.tables.columns import Columns
from experiments.data.arrays import Data
from experiments.data.built_in import BUILT_IN
from experiments.data.sources import names_code, resolved
from univae.checkpoint import JsonObject, JsonValue, existing_folder
from univae.dtypes import is_integer_array
from univae.errors import InputError
from univae.mapped_files import release_pages
from univae.run_folder import LAST

__all__ = ["absolute_sources", "describe", "fingerprint", "has_typed_paths", "without_rows"]

HASH_BLOCK = 2**24  # bytes hashed at once, so that a mapped file need not fit into memory
DIGEST_BYTES = 16


def fingerprint(data: Data) -> str:
    """Return 128 bits of BLAKE2b, in hexadecimal, of the values, labels and schema."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for array in (data.values, data.labels):
        if array is None:
            digest.update(b"none")
            continue
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        rows = max(1, HASH_BLOCK * len(array) // max(1, array.nbytes))
        for start in range(0, len(array), rows):
            block = np.ascontiguousarray(array[start : start + rows])
            digest.update(block.reshape(-1).view(np.uint8).data)
            release_pages(array)
    if data.columns is not None:
        digest.update(json.dumps(data.columns.to_json()).encode())

    return digest.hexdigest()


def describe(data: Data, source: str) -> JsonObject:
    """Return the record of a data set: source, fingerprint, count, shape, units, notes.

    ``centre`` and ``spread`` are the numbers of :meth:`Data.batch`, null where there are none;
    ``classes`` counts the distinct whole-number labels, ``class_names`` are their names if they
    have any; ``columns`` is the schema of a table with named columns.
    """
    record = {
        "source": resolved(source, BUILT_IN),
        "fingerprint": fingerprint(data),
        "count": len(data),
        "name": data.name,
        "kind": data.kind,
        "shape": data.shape,
        "levels": data.levels,
        "dtype": data.values.dtype.name,
        "classes": _class_count(data.labels),
        "class_names": data.class_names,
        "centre": data.centre,
        "spread": data.spread,
        "notes": data.notes,
    }
    if data.columns is not None:
        record["columns"] = data.columns.to_json()
    return record


def without_rows(record: JsonObject) -> Data:
    """Return a data set of no rows, of the kind, shape and units that :func:`describe` recorded.

    Raises:
        InputError: the record lacks one of them, or holds a value of another type.
    """
    try:
        return Data(
            np.empty((0, *record["shape"]), np.dtype(record["dtype"])),
            record["levels"],
            None,
            record["name"],
            record["kind"],
            centre=_unit(record["centre"]),
            spread=_unit(record["spread"]),
            columns=Columns.from_json(record["columns"]) if "columns" in record else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"data.json: not a record of images or a table ({error}); the run folder is damaged"
        ) from error


def has_typed_paths(run: Path) -> bool:
    """Return whether the ``config.json`` of a run holds paths as they were typed.

    So does version 0.1.0, which wrote no ``data.json``. A later run without one was killed while
    its data were prepared, and has no checkpoint.
    """
    trained = existing_folder(run / "checkpoints" / LAST) is not None
    return trained and not (run / "data.json").exists()


def absolute_sources(config: JsonObject) -> JsonObject:
    """Return a configuration whose ``data``, ``validation`` and ``features`` are absolute paths.

    They stay unchanged for a resumed run of version 0.1.0, whose ``config.json`` holds the options
    as they were typed.
    """
    if config["resume"] and has_typed_paths(Path(config["out"])):
        return dict(config)

    changed = dict(config)
    for name in ("data", "validation"):
        if name in config:
            changed[name] = resolved(config[name], BUILT_IN)
    features = config.get("features")
    if features is not None and not names_code(features):
        changed["features"] = resolved(features, ("auto",))
    return changed


def _class_count(labels: np.ndarray | None) -> int | None:
    if labels is None or not is_integer_array(labels):
        return None
    return len(np.unique(labels))


def _unit(stored: JsonValue) -> np.ndarray | None:
    return None if stored is None else np.asarray(stored, np.float64)
