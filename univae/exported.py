"""The export of a run: one file of what using its model needs, in place of the run folder.

It is a .zip of the JSON files of the run folder and the weights (safetensors) of its checkpoints,
without compression and without times, so that the same run gives the same bytes. Opening it
executes no code: :func:`open_export` unpacks the expected names, and no other, into the user's
cache folder, under the digest of the file.
"""

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from univae.checksums import RUN_FILES
from univae.errors import InputError

__all__ = [
    "CONFIG",
    "NAME",
    "cached_folder",
    "exported_files",
    "is_export",
    "is_unpacked",
    "missing_run",
    "open_export",
    "require_folder",
    "user_cache",
    "write_export",
]

# Names in an export.
NAME = re.compile(r"[a-z_]+\.json|checkpoints/[a-z_0-9-]+/(model\.safetensors|state\.json)")
CHECKPOINT_FILES = ("model.safetensors", "state.json")
# Exceptions of zipfile for damaged files: for methods that it lacks, and for encrypted ones, too.
DAMAGED = (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError)
CONFIG = "config.json"  # a file without it is no export

TIME = (1980, 1, 1, 0, 0, 0)  # of every file in an export: the earliest of the format
MODE = 0o644 << 16  # permission bits of every file, in the format's place
UNIX = 3  # the system that wrote the file, in the format's numbers
CHUNK = 2**20  # bytes read at once
DIGITS = 32  # of the digest in the name of a cache folder


def exported_files(run: Path, checkpoints: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files of an export by their names in it.

    Args:
        run: the run folder.
        checkpoints: the folders of checkpoints by their names.
    """
    files = {name: run / name for name in (CONFIG, *RUN_FILES) if (run / name).exists()}
    for name, folder in checkpoints.items():
        for file in CHECKPOINT_FILES:
            if (folder / file).exists():
                files[f"checkpoints/{name}/{file}"] = folder / file
    return {name: files[name] for name in sorted(files)}


def write_export(files: Mapping[str, Path], out: Path) -> None:
    """Write files under their names as an export."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.external_attr = MODE
            entry.create_system = UNIX
            archive.writestr(entry, path.read_bytes())


def is_export(path: Path) -> bool:
    """Return whether a file may be an export: a .zip that holds a ``config.json``."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return CONFIG in archive.namelist()
    except (*DAMAGED, OSError):
        return False


def open_export(path: Path) -> Path:
    """Return the folder that an export is unpacked into, in the user's cache.

    Raises:
        InputError: the file holds other files than an export, is damaged, or the cache folder
            cannot be written.
    """
    return cached_folder(_digest(path)[:DIGITS], path, lambda folder: _unpack(path, folder))


def cached_folder(name: str, source: str | Path, fill: Callable[[Path], None]) -> Path:
    """Return a run folder in the user's cache; ``fill`` writes its files where it is new.

    Args:
        name: of the folder, different for different contents.
        source: where the files are from, for messages.
        fill: writes them into an empty folder.

    Raises:
        InputError: the cache folder cannot be written.
    """
    folder = _cache() / name
    if (folder / CONFIG).exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    except OSError as error:
        raise InputError(
            f"{source}: cannot be unpacked into {folder.parent} ({error.strerror}); "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    try:
        fill(temporary)
        if not folder.exists():  # another process may have written the same files
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def is_unpacked(folder: Path) -> bool:
    """Return whether a run folder lies in the user's cache: an unpacked export, or from the hub."""
    return folder.parent == _cache()


def require_folder(path: Path, who: str) -> None:
    """Raise :class:`InputError` unless ``path`` is a folder, for ``who`` needs that of a run."""
    if is_export(path):
        raise InputError(
            f"{who}: {path} is an export, which holds what using the model needs and nothing of "
            "its training; give the run folder"
        )
    if not path.exists():
        raise missing_run(path)


def missing_run(path: Path) -> InputError:
    """Return the error for a run folder that is not there."""
    return InputError(f"{path} does not exist; give the folder a training command wrote with --out")


def _unpack(path: Path, folder: Path) -> None:
    for name, content in _contents(path):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every file of an export; raise InputError where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive.infolist())
            for name in archive.namelist():
                yield name, archive.read(name)
    except (*DAMAGED, OSError) as error:
        raise InputError(f"{path}: the file is damaged ({error}); export the run again") from error


def _check_entries(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raise InputError for a name that no export has, and for a file that was compressed."""
    for entry in entries:
        if not NAME.fullmatch(entry.filename) or entry.compress_type != zipfile.ZIP_STORED:
            raise InputError(
                f"{path}: {entry.filename!r} is not a file of univae export; export the run again"
            )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def user_cache() -> Path:
    """Return the folder for files that can be computed or fetched again.

    It is where the XDG base directory specification says.
    """
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "univae"


def _cache() -> Path:
    """Return the cache folder of exports."""
    return user_cache() / "exports"
