"""Files of object stores, ``PROTOCOL://...``, through fsspec: streamed, or copied to this machine.

Texts of one line each are streamed. Other formats are read from a copy in the user's cache, one a
URL, which only the user may read, and which is made anew when the file has changed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

from experiments.data.sources import HUB
from univae.atomic_files import replacing_file, write_text_atomic
from univae.errors import InputError
from univae.exported import user_cache

__all__ = ["is_remote", "local_copy", "local_path", "open_remote", "remote_files", "url_of"]

# Path("s3://bucket/file") is s3:/bucket/file. A single letter is a drive of Windows.
URL = re.compile(r"([a-z][a-z0-9+-]+):/+(.*)")
LOCAL = ("file", "local")  # protocols whose paths are absolute
COPIES = "remote"  # the folder of copies in the user's cache
DIGEST_BYTES = 16
BLOCK = 2**20  # bytes read at once
# Entries of fsspec's description of a file that change with it, by the names of several stores.
VERSIONS = (
    "ETag", "etag", "mtime", "created", "LastModified", "Last-Modified", "last_modified", "updated",
    "Content-MD5", "Digest", "md5Hash", "generation",
)  # fmt: skip
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
        InputError: there is no such file, or the store cannot be reached, now or while it is read.
    """
    system, path = _system(url)
    with _failures(url):
        file = system.open(path, "rb")
    with file:
        yield BufferedReader(_RemoteFile(file, url), BLOCK)


class _RemoteFile(RawIOBase):
    """An open file of a store, whose failures are InputErrors that name its URL."""

    def __init__(self, file: BufferedIOBase, url: str) -> None:
        super().__init__()
        self.file = file
        self.url = url

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _failures(self.url):
            content = self.file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def local_path(source: str | Path) -> Path:
    """Return the path of a source on this machine: that of a copy, where the source is remote.

    The copy of a URL is used again while the store gives the same ETag, time or size of the file;
    where it gives no ETag and no time, the file is copied each time.

    Raises:
        InputError: there is no such file, or the store cannot be reached.
    """
    url = url_of(source)
    if not url:
        return Path(source)
    system, path = _system(url)
    state = _state(system, path, url)
    copies = user_cache() / COPIES
    folder = copies / blake2b(url.encode(), digest_size=DIGEST_BYTES).hexdigest()
    copy = folder / (Path(path).name or "file")
    state_file = folder.with_suffix(".state")
    if state and copy.exists() and state_file.exists() and state_file.read_text() == state:
        return copy
    for created in (copies, folder):
        created.mkdir(mode=0o700, parents=True, exist_ok=True)
        created.chmod(0o700)
    state_file.unlink(missing_ok=True)
    with open_remote(url) as file, replacing_file(copy) as new, new.open("wb") as out:
        while block := file.read(BLOCK):
            out.write(block)
    write_text_atomic(state_file, state)
    return copy


@contextmanager
def local_copy(source: str | Path) -> Iterator[Path]:
    """Yield the :func:`local_path` of a source, which messages of the block name by its URL."""
    path = local_path(source)
    try:
        yield path
    except InputError as error:
        url = url_of(source)
        if not url or str(path) not in str(error):
            raise
        raise InputError(str(error).replace(str(path), url)) from error


def _state(system: Any, path: str, url: str) -> str:
    """Return what changes with a file; the empty string where the store does not say it.

    Raises:
        InputError: there is no such file, or it is a folder.
    """
    with _failures(url):
        system.invalidate_cache()
        info = system.info(path)
    if info.get("type") == "directory":
        raise InputError(f"{url}: a folder of a store; give a file, or for texts {url}/*.txt")
    facts = {name: str(info[name]) for name in VERSIONS if info.get(name) is not None}
    return f"{url} {info.get('size')} {facts}" if facts else ""


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
