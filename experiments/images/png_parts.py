"""A PNG file as its pixels and the rest of it: header, metadata and their order.

The rest, the ``frame``, is the file with empty pixel data. The file that :func:`join_png` returns
has the same pixels, bit depth and metadata; only the compressed form of the pixels may differ.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Picture", "join_png", "split_png"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = b"IHDR"
PIXELS = b"IDAT"
END = b"IEND"
# Chunks of transparency, of animations, and of places in the compressed pixels.
UNCODED = (b"tRNS", b"acTL", b"fdAT", b"iDOT")
CHUNK_EDGES = 12  # bytes of a chunk's length, name and checksum
HEADER_SIZE = 13  # bytes of the content of IHDR

GREY = 0  # colour types
COLOUR = 2
CHANNELS = {GREY: 1, COLOUR: 3}
ONE_BIT = 1
DEPTHS = {GREY: (ONE_BIT, 8), COLOUR: (8,)}  # bits a channel that are coded


class Picture(NamedTuple):
    """The parts of a PNG file."""

    pixels: np.ndarray  # (channels, height, width), uint8: 0 and 1 where it has one bit a pixel
    one_bit: bool
    frame: bytes


class _Chunk(NamedTuple):
    name: bytes
    content: bytes  # without length, name and checksum
    whole: bytes  # with them


def split_png(content: bytes, shape: tuple[int, ...]) -> Picture | None:
    """Return the parts of an opaque grey or RGB PNG of a shape (channels, height, width).

    None is returned for any other file, and for a PNG that its parts would not restore: of another
    bit depth, interlaced, transparent, animated, or damaged.
    """
    try:
        chunks = list(_chunks(content))
    except (ValueError, struct.error):
        return None
    names = [chunk.name for chunk in chunks]
    if names[:1] != [HEADER] or names[-1] != END or PIXELS not in names:
        return None
    depth = _bit_depth(chunks[0].content, shape)
    start = names.index(PIXELS)
    end = start + names.count(PIXELS)
    in_one_piece = names[start:end] == [PIXELS] * (end - start)
    if depth is None or not in_one_piece or any(name in names for name in UNCODED):
        return None

    pixels = _decoded(content)
    if pixels is None or pixels.shape != shape:
        return None
    kept = [*chunks[1:start], _chunk(PIXELS, b""), *chunks[end:]]
    frame = chunks[0].whole + b"".join(chunk.whole for chunk in kept)
    return Picture(pixels, depth == ONE_BIT, frame)


def join_png(picture: Picture) -> bytes:
    """Return a PNG file of the parts.

    Raises:
        ValueError: the frame is damaged.
    """
    from PIL import Image

    rows = np.moveaxis(picture.pixels, 0, -1)
    if rows.shape[-1] == CHANNELS[GREY]:
        rows = rows[..., 0]
    image = Image.fromarray(rows.astype(bool) if picture.one_bit else rows)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    encoded = [chunk.whole for chunk in _chunks(buffer.getvalue()) if chunk.name == PIXELS]

    parts = [SIGNATURE]
    for chunk in _chunks(SIGNATURE + picture.frame):
        parts += encoded if chunk.name == PIXELS else [chunk.whole]
    return b"".join(parts)


def _chunks(content: bytes) -> Iterator[_Chunk]:
    """Yield the chunks of a PNG; raise ValueError where it is damaged or no PNG."""
    if not content.startswith(SIGNATURE):
        raise ValueError("no PNG")
    position = len(SIGNATURE)
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        whole = content[position : position + length + CHUNK_EDGES]
        chunk = _chunk(whole[4:8], whole[8:-4])
        if chunk.whole != whole:
            raise ValueError("a chunk is damaged")
        yield chunk
        position += len(whole)


def _chunk(name: bytes, content: bytes) -> _Chunk:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return _Chunk(name, content, struct.pack(">I", len(content)) + name + content + checksum)


def _bit_depth(header: bytes, shape: tuple[int, ...]) -> int | None:
    """Return the bits a channel of a header; None unless it is of the shape and can be coded."""
    if len(header) != HEADER_SIZE:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    size = (CHANNELS.get(colour), height, width)
    if size != shape or interlaced or depth not in DEPTHS[colour]:
        return None
    return int(depth)


def _decoded(content: bytes) -> np.ndarray | None:
    """Return the pixels (channels, height, width) as stored; None where they are damaged."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            rows = np.asarray(image)
    except (OSError, SyntaxError, ValueError, zlib.error):
        return None
    return np.moveaxis(rows.reshape(*rows.shape[:2], -1), -1, 0).astype(np.uint8)
