"""SHA-256 of the files that a checkpoint depends on, stored in it and compared when it is used.

``checksums.json`` lies in the folder of a checkpoint and is written with it. It holds the digests
of the checkpoint's files but ``state.json``, which is rewritten where training gets longer, and of
the files of the run folder that give the weights their meaning, but ``config.json``: training on
rewrites it, too. Weights of another shape than its options are refused when they are read; a change
of another option is not noticed. Checkpoints of earlier versions have no digests, and are not
compared. 100 MB take a twentieth of a second.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from univae.checkpoint import read_json, write_json
from univae.errors import InputError
from univae.rules import reading

__all__ = [
    "CHECKSUMS",
    "WEIGHTS",
    "file_digest",
    "read_unchanged",
    "require_unchanged",
    "write_checksums",
]

CHECKSUMS = "checksums.json"
CHECKPOINT = "checkpoint"  # key of the digests of files in the folder of the checkpoint
RUN = "run"  # key of those in the run folder
WEIGHTS = "model.safetensors"  # in the folder of a checkpoint
REWRITTEN = (CHECKSUMS, "state.json")
BLOCK = 2**18  # bytes read at a time
RUN_FILES = ("data.json", "model.json", "tokenizer.json")

Value = TypeVar("Value")


def write_checksums(checkpoint: Path, run: Path) -> None:
    """Write the digests of a complete checkpoint, and of the files of its run folder."""
    paths = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    files = [path for path in paths if path.name not in REWRITTEN]
    in_run = [run / name for name in RUN_FILES if (run / name).is_file()]
    digests = {
        CHECKPOINT: {path.relative_to(checkpoint).as_posix(): file_digest(path) for path in files},
        RUN: {path.name: file_digest(path) for path in in_run},
    }
    write_json(checkpoint / CHECKSUMS, digests)


def require_unchanged(checkpoint: Path, run: Path, *, to_train: bool = False) -> None:
    """Compare the files of a checkpoint and of its run folder with their digests, if it has any.

    Args:
        checkpoint: the folder of the checkpoint.
        run: the run folder.
        to_train: compare all files of the checkpoint, not only the weights.

    Raises:
        InputError: a file is missing or has changed since the checkpoint was saved.
    """
    path = checkpoint / CHECKSUMS
    if not path.exists():
        return
    stored = read_json(path)
    with reading(path):
        files = dict(stored[CHECKPOINT])
        if not to_train:
            files = {WEIGHTS: files[WEIGHTS]}
        expected = [*_paths(checkpoint, files), *_paths(run, stored[RUN])]
    for file, digest in expected:
        if not file.is_file() or file_digest(file) != digest:
            state = "has changed" if file.exists() else "is missing"
            raise InputError(
                f"{file}: {state} since the checkpoint {checkpoint.name!r} was saved; restore the "
                f"file that the run wrote, or delete {path} to use it as it is"
            )


def read_unchanged(
    checkpoints: Callable[[], Sequence[Path]],
    run: Path,
    read: Callable[[], Value],
    *,
    to_train: bool = False,
) -> Value:
    """Return what ``read`` reads from checkpoints, once their files have been compared.

    A training may replace a checkpoint at any time. It is then read and compared again, so that
    the files that were read are those that were compared.

    Args:
        checkpoints: returns the folders of the checkpoints that ``read`` reads.
        run: the run folder.
        read: reads them.
        to_train: as of :func:`require_unchanged`.

    Raises:
        InputError: a file is missing or has changed since its checkpoint was saved.
    """
    while True:
        before = _stored(checkpoints())
        try:
            value = read()
            for checkpoint in checkpoints():
                require_unchanged(checkpoint, run, to_train=to_train)
        except InputError:
            if _stored(checkpoints()) == before:
                raise
        else:
            if _stored(checkpoints()) == before:
                return value


def _stored(checkpoints: Sequence[Path]) -> dict[Path, bytes | None]:
    """Return the stored digests of every folder, as bytes; None where there are none."""
    contents: dict[Path, bytes | None] = {}
    for folder in checkpoints:
        try:
            contents[folder] = (folder / CHECKSUMS).read_bytes()
        except OSError:
            contents[folder] = None
    return contents


def _paths(folder: Path, digests: Mapping[str, object]) -> Iterator[tuple[Path, object]]:
    """Yield the files of a folder with their digests; none outside of the folder is accepted."""
    for name, digest in digests.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{name!r} does not lie in the folder")
        yield folder / path, digest


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
