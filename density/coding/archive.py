"""The file of stored content: bytes under LZMA2, alone or beside rows that a model codes.

A file holds, in this order: magic and version; ``facts`` as JSON, which say what the bytes are; the
number of the bytes, of those of their LZMA2 stream, and its checksum; the number of bytes of the
rows; a checksum of all that; the stream; the rows, a file of :mod:`density.coding.container`.
Without rows the file needs no model, and is at most 64 bytes longer than the xz file of the bytes.
"""

import json
import zlib
from dataclasses import dataclass

from density.coding.fields import (
    MAGIC,
    FieldReader,
    checksum_field,
    damaged,
    number_field,
    text_field,
    version_of,
)
from density.coding.stored import expand, squeeze
from univae.checkpoint import JsonObject

__all__ = ["Archive", "is_archive", "pack_archive", "unpack_archive"]

VERSION = 3  # versions 1 and 2 hold rows only


@dataclass(frozen=True)
class Archive:
    """Stored bytes and coded rows."""

    facts: JsonObject  # what the stored bytes are
    stored: bytes
    rows: bytes = b""  # a file of :mod:`density.coding.container`; empty: there are none


def is_archive(content: bytes) -> bool:
    """Return whether a file is an archive, and not a file of rows alone.

    Raises:
        InputError: the content is no compressed file of univae.
    """
    return version_of(content) == VERSION


def pack_archive(archive: Archive) -> bytes:
    """Return the bytes of a file."""
    stream = squeeze(archive.stored)
    fields = [MAGIC, bytes([VERSION])]
    fields += [text_field(json.dumps(archive.facts, separators=(",", ":")))]
    fields += [number_field(len(archive.stored)), number_field(len(stream))]
    fields += [checksum_field(zlib.crc32(stream)), number_field(len(archive.rows))]
    head = b"".join(fields)
    return b"".join([head, checksum_field(zlib.crc32(head)), stream, archive.rows])


def unpack_archive(content: bytes) -> Archive:
    """Return the archive of a file.

    Raises:
        InputError: the content is no file of :func:`pack_archive`, or is damaged.
    """
    reader = FieldReader(content)
    try:
        facts = json.loads(reader.text())
    except (ValueError, RecursionError) as error:
        raise damaged("its header is invalid") from error
    size = reader.number()
    stream_size = reader.number()
    stream_checksum = reader.checksum()
    rows_size = reader.number()
    reader.verify_header()
    if not isinstance(facts, dict):
        raise damaged("its header is invalid")

    start = reader.position
    stream = content[start : start + stream_size]
    if zlib.crc32(stream) != stream_checksum:
        raise damaged("the stored part does not match its checksum")
    end = start + stream_size + rows_size
    if len(content) != end:
        raise damaged(f"{len(content)} bytes instead of {end}")
    return Archive(facts, expand(stream, size), content[start + stream_size :])
