"""Checkpoint files, which execute no code when they are opened.

Weights are safetensors; the state of an optimizer is a file for ``torch.load(weights_only=True)``,
which builds tensors and plain containers only; everything else is JSON. All are written by
:mod:`univae.atomic_files`, so that a crash leaves the old file or the new one.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from univae.atomic_files import (
    existing_folder,
    is_temporary,
    recover_folder,
    remove_folder,
    replacing_file,
    replacing_folder,
    sync,
    sync_tree,
    temporary_beside,
    write_text_atomic,
)
from univae.errors import InputError

__all__ = [
    "JsonObject",
    "JsonValue",
    "existing_folder",
    "fill_weights",
    "is_temporary",
    "load_state",
    "load_weights",
    "read_json",
    "recover_folder",
    "remove_folder",
    "replacing_file",
    "replacing_folder",
    "save_state",
    "save_weights",
    "sync",
    "sync_tree",
    "temporary_beside",
    "to_json",
    "write_json",
    "write_text_atomic",
]

# JSON as Python reads and writes it: any value, and an object.
JsonValue: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]

COPY_AGAIN = "it may be truncated or of another kind: copy it again"
DIFFERENCES_SHOWN = 3  # weights named in a message


def save_weights(module: nn.Module | Mapping[str, Tensor], path: str | Path) -> None:
    """Write the module's ``state_dict``, or one that is given, as safetensors.

    Tensors that share memory are written once per name.
    """
    with replacing_file(Path(path)) as temporary:
        weights = module.state_dict() if isinstance(module, nn.Module) else module
        save_file(_unshared(weights), temporary)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Fill ``module`` with the weights in the file ``path``.

    Raises:
        InputError: the file is not safetensors, or its names and shapes are not exactly those of
            the module; the module is then unchanged.
    """
    fill_weights(module, read_weights(path), path)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the weights in the file ``path`` by name.

    Raises:
        InputError: the file is not safetensors.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: not a readable safetensors file ({_first_line(error)}); {COPY_AGAIN}"
        ) from error


def fill_weights(module: nn.Module, weights: object, path: str | Path) -> None:
    """Fill ``module`` with ``weights``, a mapping read from the file ``path``.

    Raises:
        InputError: as :func:`load_weights`.
    """
    fitting = require_weights(module, weights, path)
    module.load_state_dict(fitting)

    # If the file has two values for two names of one tensor, the second overwrites the first.
    overwritten = [name for name, x in module.state_dict().items() if not _equal(x, fitting[name])]
    if overwritten:
        raise InputError(
            f"{path}: {', '.join(overwritten[:DIFFERENCES_SHOWN])} shares memory with another "
            "weight, which the file contradicts"
        )


def require_weights(module: nn.Module, weights: object, path: str | Path) -> Mapping[str, Tensor]:
    """Return ``weights``, read from the file ``path``, if they are those of ``module``.

    Raises:
        InputError: their names and shapes are not exactly those of the module.
    """
    if not isinstance(weights, Mapping) or not all(isinstance(x, Tensor) for x in weights.values()):
        raise InputError(f"{path}: holds no weights; {COPY_AGAIN}")
    differences = _differences(module.state_dict(), weights)
    if differences:
        message = "; ".join(differences[:DIFFERENCES_SHOWN])
        if len(differences) > DIFFERENCES_SHOWN:
            message += f"; and {len(differences) - DIFFERENCES_SHOWN} more"
        raise InputError(
            f"{path}: weights of another model: {message}; "
            "build the model from the config.json of the same run"
        )
    return weights


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
            f"{path}: not a readable training state ({_first_line(error)}); {COPY_AGAIN}"
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
        InputError: the file does not exist, or it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the folder") from error
    except RecursionError as error:
        rule = "not a readable JSON file (nested too deep)"
        raise InputError(f"{path}: {rule}; {COPY_AGAIN}") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable JSON file ({_first_line(error)}); {COPY_AGAIN}"
        ) from error


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


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors without shared memory, as safetensors requires."""
    storages: set[int] = set()
    unshared = {}
    for name, x in tensors.items():
        storage = x.untyped_storage().data_ptr()
        if storage in storages:
            unshared[name] = x.detach().clone(memory_format=torch.contiguous_format)
        else:
            unshared[name] = x.detach().contiguous()
        storages.add(storage)
    return unshared


def _differences(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    shapes = []
    for name, x in expected.items():
        if name in weights and weights[name].shape != x.shape:
            shape = tuple(weights[name].shape)
            shapes.append(f"{name} is {shape} in the file, {tuple(x.shape)} in the model")
    missing = [f"{name} is missing" for name in expected if name not in weights]
    unexpected = [f"{name} is not in the model" for name in weights if name not in expected]
    return shapes + missing + unexpected


def _equal(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y.to(x), rtol=0, atol=0, equal_nan=True)


def _first_line(error: BaseException) -> str:
    message = str(error).strip() or type(error).__name__
    return message.splitlines()[0]
