"""Checkpoint files, which execute no code when they are opened.

Weights are safetensors; the state of an optimizer is a file for ``torch.load(weights_only=True)``,
which builds tensors and plain containers only; everything else is JSON. All are written by
:mod:`univae.atomic_files`, so that a crash leaves the old file or the new one.
"""

import dataclasses
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch

from univae.atomic_files import (
    existing_folder,
    is_temporary,
    recover_folder,
    remove_folder,
    replacing_file,
    replacing_folder,
    sync,
    sync_tree,
    write_text_atomic,
)
from univae.errors import InputError
from univae.weights_file import (
    COPY_AGAIN,
    fill_weights,
    first_line,
    load_weights,
    read_module,
    read_weights,
    require_weights,
    save_weights,
)

__all__ = [
    "JsonObject",
    "JsonValue",
    "existing_folder",
    "fill_weights",
    "is_temporary",
    "load_state",
    "load_weights",
    "read_json",
    "read_module",
    "read_weights",
    "recover_folder",
    "remove_folder",
    "replacing_file",
    "replacing_folder",
    "require_weights",
    "save_state",
    "save_weights",
    "sync",
    "sync_tree",
    "to_json",
    "write_json",
    "write_text_atomic",
]

LARGEST_JSON = 2**29  # bytes of a file of JSON, which is read as a whole

# JSON as Python reads and writes it: any value, and an object.
JsonValue: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]


def save_state(state: Mapping[str, object], path: str | Path) -> None:
    """Write tensors, numbers and strings in plain containers, for :func:`load_state`."""
    with replacing_file(Path(path)) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a file of :func:`save_state`, its tensors onto the CPU.

    Raises:
        InputError: the file is damaged, or holds anything but tensors and plain containers.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # for a damaged byte, torch's unpickler can raise any exception
        raise InputError(
            f"{path}: not a readable training state ({first_line(error)}); {COPY_AGAIN}"
        ) from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: not a training state but a {type(state).__name__}; {COPY_AGAIN}")
    return state


def write_json(path: str | Path, obj: object) -> None:
    """Write ``obj`` as strict JSON (see :func:`to_json`)."""
    text = json.dumps(to_json(obj), indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomic(path, text + "\n")


def read_json(path: str | Path) -> JsonValue:
    """Read a JSON file.

    Raises:
        InputError: the file does not exist, or it is not JSON, or a device, or over 512 MiB.
    """
    try:
        _require_json_size(Path(path))
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the folder") from error
    except RecursionError as error:
        rule = "not a readable JSON file (nested too deep)"
        raise InputError(f"{path}: {rule}; {COPY_AGAIN}") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable JSON file ({first_line(error)}); {COPY_AGAIN}"
        ) from error


def _require_json_size(path: Path) -> None:
    """Raise ValueError for a file that may never end, or would fill the memory."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is no regular file")
    if state.st_size > LARGEST_JSON:
        raise ValueError(f"{state.st_size} bytes, and it may have {LARGEST_JSON}")


def to_json(obj: object) -> JsonValue:
    """Return ``obj`` in JSON's types.

    NaN and infinity become null, paths strings, dataclasses objects, tensors and arrays lists, and
    tensors and arrays without axes numbers.
    """
    if isinstance(obj, float):
        return float(obj) if math.isfinite(obj) else None
    if obj is None or isinstance(obj, bool | int | str):
        return obj
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {field.name: to_json(getattr(obj, field.name)) for field in dataclasses.fields(obj)}
    if isinstance(obj, Mapping):
        return {str(key): to_json(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple | set | frozenset):
        return [to_json(value) for value in obj]
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    if hasattr(obj, "tolist"):  # tensors, NumPy arrays and NumPy scalars
        return to_json(obj.tolist())
    raise TypeError(
        f"to_json: {type(obj).__name__} has no JSON form; "
        "give numbers, strings, lists or dictionaries"
    )
