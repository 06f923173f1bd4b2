"""Files of object stores, ``PROTOCOL://...``, through fsspec: streamed, or copied to this machine.

Texts of one line each are streamed. Other formats are read from a copy in the user's cache, which
is made anew when the file has changed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

from experiments.data.sources import HUB, user_cache
from univae.atomic_files import replacing_file
from univae.errors import InputError

__all__ = ["is_remote", "local_path", "open_remote", "remote_files", "url_of"]

# Path("s3://bucket/file") is s3:/bucket/file. A single letter is a drive of Windows.
URL = re.compile(r"([a-z][a-z0-9+-]+):/+(.*)")
LOCAL = ("file", "local")  # protocols whose paths are absolute
COPIES = "remote"  # the folder of copies in the user's cache
DIGEST_BYTES = 16
BLOCK = 2**20  # bytes copied at once
LONGEST_REASON = 160  # characters of a library's message


def url_of(source: str | Path) -> str:
    """Return a source with a protocol as a URL; the empty string for any other.

    >>> url_of("s3://bucket/a.txt"), url_of(Path("s3://bucket/a.txt")), url_of("a.txt")
    ('s3://bucket/a.txt', 's3://bucket/a.txt', '')
    """
    match = URL.fullmatch(str(source))
    if match is None or str(source).startswith(HUB) or Path(source).exists():
        return ""
    protocol, rest = match.groups()
    return f"{protocol}:///{rest}" if protocol in LOCAL else f"{protocol}://{rest}"


def is_remote(source: str | Path) -> bool:
    """Return whether a source has a protocol, and is no file of this name."""
    return bool(url_of(source))


def remote_files(url: str) -> list[str]:
    """Return the file of a URL, or those that match its ``*``, by their names in order.

    Raises:
        InputError: there is none, or the store cannot be reached.
    """
    if "*" not in url:
        return [url]
    system, pattern = _system(url)
    with _failures(url):
        paths = sorted(system.glob(pattern))
        urls = [str(system.unstrip_protocol(path)) for path in paths]
    if not urls:
        raise InputError(f"{url}: no file matches; check the pattern")
    return urls


@contextmanager
def open_remote(url: str) -> Iterator[BufferedIOBase]:
    """Open a file for reading while the block runs.

    Raises:
        InputError: there is no such file, or the store cannot be reached.
    """
    system, path = _system(url)
    with _failures(url):
        file = system.open(path, "rb")
    with file:
        yield cast("BufferedIOBase", file)


def local_path(source: str | Path) -> Path:
    """Return the path of a source on this machine: that of a copy, where the source is remote.

    Raises:
        InputError: there is no such file, or the store cannot be reached.
    """
    url = url_of(source)
    if not url:
        return Path(source)
    system, path = _system(url)
    with _failures(url):
        state = f"{url} {system.ukey(path)}"
    digest = blake2b(state.encode(), digest_size=DIGEST_BYTES).hexdigest()
    copy = user_cache() / COPIES / digest / Path(path).name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with open_remote(url) as file, replacing_file(copy) as new, new.open("wb") as out:
            while block := file.read(BLOCK):
                out.write(block)
    return copy


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and its path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(f"{url}: needs the extra remote: pip install 'univae[remote]'") from error
    with _failures(url):
        system, path = url_to_fs(url)
    return system, path


@contextmanager
def _failures(url: str) -> Iterator[None]:
    """Turn the exceptions of fsspec's libraries into an InputError that names the URL."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{url}: no such file; check the address") from error
    except Exception as error:  # every store has its own classes
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        raise InputError(f"{url}: cannot be opened ({reason}); check address and access") from error
