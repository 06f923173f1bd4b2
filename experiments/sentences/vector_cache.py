"""Where the vectors of a corpus are kept: in the run folder, or in the user's cache.

A file is named by all that its vectors depend on, so that a run holds the vectors of many corpora.
Earlier versions wrote ``CORPUS.vectors.npy`` beside the corpus; such a file is read while it is
valid, and never written.
"""

import json
import os
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

from experiments.data.texts import TextFiles
from univae.errors import InputError
from univae.exported import user_cache

__all__ = ["cached_files", "index_file", "writable_file"]

FOLDER = "vectors"  # in the run folder
DIGEST_BYTES = 12
BESIDE = ".vectors.npy"  # suffix of earlier versions


def cached_files(run: Path, corpus: TextFiles, recipe: Mapping[str, object]) -> Iterator[Path]:
    """Yield the files that may hold the vectors of ``recipe``, those of the run folder first."""
    name = _name(recipe)
    for folder in _folders(run):
        if (folder / name).is_file():
            yield folder / name
    if len(corpus.names) == 1:
        source = Path(corpus.names[0])
        beside = source.with_name(source.name + BESIDE)
        if source.is_file() and beside.is_file():
            yield beside


def writable_file(run: Path, recipe: Mapping[str, object]) -> Path:
    """Return the file to write the vectors of ``recipe`` to; its folder is created.

    Raises:
        InputError: neither the run folder nor the user's cache can be written to.
    """
    for folder in _folders(run):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder / _name(recipe)
    folders = " nor ".join(map(str, _folders(run)))
    raise InputError(f"neither {folders} can be written to; give --vectors FILE.npy")


def index_file(recipe: Mapping[str, object], suffix: str) -> Path:
    """Return the file of an index in the user's cache, written or not; its folder is created.

    Raises:
        InputError: the user's cache cannot be written to.
    """
    folder = user_cache() / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: an index cannot be written there ({error.strerror}); "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return folder / _name(recipe, suffix)


def _folders(run: Path) -> tuple[Path, Path]:
    return run / FOLDER, user_cache() / FOLDER


def _name(recipe: Mapping[str, object], suffix: str = ".npy") -> str:
    content = json.dumps(recipe, sort_keys=True).encode()
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest() + suffix
