"""Checkpoints that run no code when they are opened and are never half written.

Weights are safetensors, everything else is JSON, and what an optimizer remembers is a file for
``torch.load(weights_only=True)``, which builds tensors and plain containers and nothing more.

A file is written under a temporary name beside its own, forced to the disk (fsync) and renamed, so
its name always stands for a whole file, also after a power cut. A folder cannot be replaced in one
rename: :func:`replacing_folder` moves the old one aside, the new one in, and only then deletes;
:func:`existing_folder` finds the old one if the machine stopped between the two renames.

These are for files that the program owns. Paths that a person names for a result go through
:mod:`experiments.data.outputs`, which replaces nothing unasked.
"""

import dataclasses
import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from univae.errors import InputError

__all__ = [
    "JsonObject",
    "existing_folder",
    "fill_weights",
    "is_temporary",
    "load_state",
    "load_weights",
    "read_json",
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

# A JSON object as Python reads and writes it.
JsonObject: TypeAlias = dict[str, Any]


def save_weights(module: nn.Module, path: str | Path) -> None:
    """Write the module's ``state_dict`` as safetensors.

    Tensors that share memory are written once per name.
    """
    with replacing_file(Path(path)) as temporary:
        save_file(_apart(module.state_dict()), temporary)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Fill ``module`` with the weights in ``path``; names and shapes must be exactly the module's.

    Nothing is changed when the file does not fit.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: not a readable safetensors file ({_first_line(error)}); {_COPY_AGAIN}"
        ) from error
    fill_weights(module, found, path)


def fill_weights(module: nn.Module, found: Any, path: str | Path) -> None:
    """Fill ``module`` with the tensors ``found`` in the file ``path``, by the rules of :func:`load_weights`."""
    own = module.state_dict()
    if not isinstance(found, Mapping) or not all(isinstance(x, Tensor) for x in found.values()):
        raise InputError(f"{path}: holds no weights; {_COPY_AGAIN}")
    if differences := _differences(own, found):
        shown = "; ".join(differences[:3]) + (
            f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        )
        raise InputError(
            f"{path}: weights of another model: {shown}; build the model from the run's own configuration"
        )
    module.load_state_dict(found)
    # Two names of one tensor are filled one after the other: had the file held two values, one
    # would be lost.
    if lost := [name for name, x in module.state_dict().items() if not _same(x, found[name])]:
        raise InputError(
            f"{path}: {', '.join(lost[:3])} shares memory with another weight, which the file contradicts"
        )


def save_state(state: Mapping[str, Any], path: str | Path) -> None:
    """Write tensors, numbers and strings in plain containers; :func:`load_state` reads them."""
    with replacing_file(Path(path)) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote, onto the CPU.

    A file that holds anything but data is refused.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader of pickles raises whatever a damaged byte leads to
        raise InputError(
            f"{path}: not a readable training state ({_first_line(error)}); {_COPY_AGAIN}"
        ) from error
    if not isinstance(state, dict):
        raise InputError(
            f"{path}: not a training state but a {type(state).__name__}; {_COPY_AGAIN}"
        )
    return state


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as strict JSON (see :func:`to_json`)."""
    write_text_atomic(
        path, json.dumps(to_json(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; is this the folder you meant?") from error
    except RecursionError as error:
        rule = "not a readable JSON file (nested too deep)"
        raise InputError(f"{path}: {rule}; {_COPY_AGAIN}") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable JSON file ({_first_line(error)}); {_COPY_AGAIN}"
        ) from error


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write UTF-8 text with the line ends given: whoever reads ``path`` finds the old text or the new, never less."""
    with replacing_file(Path(path)) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def to_json(obj: Any) -> Any:
    """The same value in JSON's own types: NaN and infinity become null, paths strings, one-element arrays numbers."""
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
        f"to_json: {type(obj).__name__} has no JSON form; give numbers, strings, lists or dictionaries"
    )


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file that takes the place of ``path`` when the block ends, and vanishes if it raises."""
    temporary = temporary_beside(path)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner reads
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` when the block ends, and vanishes if it raises.

    The caller owns ``path`` alone: what stood there is deleted with everything in it.
    """
    path = Path(path)
    new = path.with_name(f".{path.name}.new")
    old = _aside(path)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_tree(new)
    if (
        path.exists()
    ):  # else ``old`` may be the only whole folder there is: it stays until ``new`` is in place
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    new.rename(path)
    sync(path.parent)  # the new name is on the disk before the old folder goes
    shutil.rmtree(old, ignore_errors=True)


def temporary_beside(path: Path) -> Path:
    """Return the hidden name beside ``path`` under which this process writes it."""
    return path.with_name(f".{path.name}.{os.getpid()}.new")


def is_temporary(path: Path) -> bool:
    """Return whether a file has the name of one that :func:`replacing_file` was writing."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sync(path: Path) -> None:
    """Force a file, or a folder's list of names, from the memory of the operating system to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # a system whose folders cannot be opened, or a file that only others may read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
            errno.EROFS,
        ):  # a file system that has no fsync
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Force everything in a folder to the disk, and the folder itself."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)


def existing_folder(path: str | Path) -> Path | None:
    """The folder that holds what was last written to ``path`` as a whole.

    ``None`` if nothing was.
    """
    return next((folder for folder in (Path(path), _aside(Path(path))) if folder.is_dir()), None)


_TEMPORARY = re.compile(r"\..+\.\d+\.new")
_COPY_AGAIN = "it may be cut short or of another kind: copy it again"


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # The format stores dense tensors that share nothing: a view or a second name becomes a copy of
    # its own.
    seen: set[int] = set()
    apart = {}
    for name, x in tensors.items():
        shared = x.untyped_storage().data_ptr() in seen
        seen.add(x.untyped_storage().data_ptr())
        apart[name] = (
            x.detach().clone(memory_format=torch.contiguous_format)
            if shared
            else x.detach().contiguous()
        )
    return apart


def _differences(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    missing = [f"{name} is missing" for name in own if name not in found]
    foreign = [f"{name} is not in the model" for name in found if name not in own]
    shapes = [
        f"{name} is {tuple(found[name].shape)} in the file, {tuple(x.shape)} in the model"
        for name, x in own.items()
        if name in found and found[name].shape != x.shape
    ]
    return shapes + missing + foreign


def _same(x: Tensor, y: Tensor) -> bool:
    return torch.allclose(x, y.to(x), rtol=0, atol=0, equal_nan=True)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
