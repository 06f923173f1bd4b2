"""The file of compressed rows: a header and blocks that can be decoded separately, with checksums.

A file holds, in this order: ``magic`` and version; the fingerprint of the model; coder, particles,
tile, order of layers; the version of torch; dtype and shape of the data; notes as JSON; of every
block the number of rows, of those coded without latents, of bytes, and the checksums of bytes and
of rows; a checksum of all that; the bytes of the blocks. The checksum of bytes is verified before
decoding, that of rows before they are returned.

The note ``probe`` is a checksum of the writer's arithmetic, see
:meth:`density.coding.bits_back.BitsBack.probe`; earlier versions wrote none.

In version 2 a byte before each block's numbers says whether the block is a message of the coder or
is stored without a model, because that is shorter. A file without such blocks is of version 1.
"""

import json
import zlib
from dataclasses import dataclass, field

import numpy as np

from density.coding.data_code import Coding
from density.coding.fields import (
    MAGIC,
    FieldReader,
    checksum_field,
    damaged,
    number_field,
    text_field,
    version_of,
)
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = [
    "EARLIER_ROWS",
    "FREE_ROWS",
    "PROBE",
    "ROWS_PER_BYTE",
    "Block",
    "Header",
    "pack",
    "to_bytes",
    "to_words",
    "unpack",
]

PLAIN_VERSION = 1  # without stored blocks
STORED_VERSION = 2
VERSIONS = (PLAIN_VERSION, STORED_VERSION)
PROBE = "probe"  # the note with the checksum of the writer's arithmetic
# Constriction's default asymmetric numeral system with tables of 24 bits; autoregressive pixels in
# raster order, or wave by wave.
RASTER_CODER = 1
WAVE_CODER = 2
CODERS = (RASTER_CODER, WAVE_CODER)
FINGERPRINT = 32  # bytes
# Rows of a block, whatever its bytes, and beyond them rows a byte: a bit a row. Without a limit a
# file of some bytes could declare rows that take for ever to decode.
FREE_ROWS = 2**16
ROWS_PER_BYTE = 8
EARLIER_ROWS = 2**30  # of a block of an earlier version, which had no such limit


@dataclass(frozen=True)
class Block:
    """A message that can be decoded without the others."""

    count: int  # rows
    plain: int  # rows coded without latents
    size: int  # bytes
    sum_bytes: int  # CRC-32 of the bytes
    sum_data: int  # CRC-32 of the rows
    is_stored: bool = False  # under LZMA2 instead of the coder

    @property
    def most_rows(self) -> int:
        """The most rows that a message of this many bytes may have."""
        return max(FREE_ROWS, ROWS_PER_BYTE * self.size)


@dataclass(frozen=True)
class Header:
    """The model, options, shape and blocks of a file."""

    fingerprint: bytes
    coding: Coding
    torch: str
    dtype: str  # of the uncompressed data; "text" for lines
    shape: tuple[int, ...]  # of the uncompressed data
    notes: JsonObject = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(block.count for block in self.blocks)

    @property
    def probe(self) -> int | None:
        """The checksum of the writer's arithmetic; None in files of earlier versions."""
        return self.notes.get(PROBE)

    def check(self, fingerprint: bytes) -> None:
        """Raise :class:`InputError` if another model wrote the file."""
        if self.fingerprint != fingerprint:
            raise InputError(
                f"decompress: the model must be {self.fingerprint.hex()[:16]}, the writer's; "
                f"got {fingerprint.hex()[:16]}; use the unchanged run that wrote it"
            )

    def check_rows(self) -> None:
        """Raise :class:`InputError` if a message has more rows than one of its bytes may have.

        Stored blocks are bounded where they are expanded. Files without the note ``probe`` are of
        versions whose messages could be shorter.
        """
        for block in self.blocks:
            most = EARLIER_ROWS if self.probe is None else block.most_rows
            if block.count > most and not block.is_stored:
                raise InputError(
                    f"decompress: the file is refused: a block of {block.size} bytes declares "
                    f"{block.count} rows, and may have {most}; give a file of univae compress"
                )


def pack(header: Header, payloads: list[bytes]) -> bytes:
    """Return the bytes of a file."""
    coding = header.coding
    notes = json.dumps(header.notes, separators=(",", ":")) if header.notes else ""
    has_stored = any(block.is_stored for block in header.blocks)
    version = STORED_VERSION if has_stored else PLAIN_VERSION
    coder = WAVE_CODER if coding.waves else RASTER_CODER
    fields = [MAGIC, bytes([version]), header.fingerprint]
    fields += [number_field(n) for n in (coder, coding.particles, coding.tile, coding.swap)]
    fields += [text_field(header.torch), text_field(header.dtype)]
    fields += [number_field(n) for n in (len(header.shape), *header.shape)]
    fields += [text_field(notes), number_field(len(header.blocks))]
    for block in header.blocks:
        if has_stored:
            fields += [bytes([block.is_stored])]
        fields += [number_field(n) for n in (block.count, block.plain, block.size)]
        fields += [checksum_field(block.sum_bytes), checksum_field(block.sum_data)]
    head = b"".join(fields)
    return b"".join([head, checksum_field(zlib.crc32(head)), *payloads])


def unpack(content: bytes) -> tuple[Header, list[bytes]]:
    """Return header and bytes of the blocks.

    Raises:
        InputError: the content is no file of :func:`pack`, or is damaged, or of another version, or
            declares more rows than its bytes may hold.
    """
    version = version_of(content)
    if version not in VERSIONS:
        raise InputError(
            f"decompress: the format must be version {PLAIN_VERSION} or {STORED_VERSION}; "
            f"got {version}; use the univae that wrote the file"
        )
    reader = _HeaderReader(content, version)
    header = reader.header()
    start = reader.position
    payloads = []
    for i, block in enumerate(header.blocks):
        payload = content[start : start + block.size]
        if zlib.crc32(payload) != block.sum_bytes:
            raise damaged(f"block {i} of {len(header.blocks)} does not match its checksum")
        payloads.append(payload)
        start += block.size
    if start != len(content):
        raise damaged(f"{len(content)} bytes instead of {start}")
    return header, payloads


class _HeaderReader(FieldReader):
    """Read the header of a file."""

    def __init__(self, content: bytes, version: int) -> None:
        super().__init__(content)
        self.version = version

    def header(self) -> Header:
        """Return the header, after a check of its checksum."""
        try:
            return self._header()
        except InputError:
            raise
        except (ValueError, IndexError, OverflowError, TypeError, RecursionError) as error:
            raise damaged("its header is invalid") from error

    def _header(self) -> Header:
        fingerprint = self.take(FINGERPRINT)
        coder = self.number()
        particles = self.number()
        tile = self.number()
        swap = bool(self.number())
        torch = self.text()
        dtype = self.text()
        shape = tuple(self.number() for _ in range(self.number()))
        notes = self.text()
        blocks = tuple(self._block() for _ in range(self.number()))
        self.verify_header()
        if coder not in CODERS:
            raise InputError(
                f"decompress: the coder must be {RASTER_CODER} or {WAVE_CODER}; got {coder}; "
                "use a newer univae"
            )
        coding = Coding(particles, tile, swap, waves=coder == WAVE_CODER)
        parsed = json.loads(notes) if notes else {}
        if not isinstance(parsed, dict) or type(parsed.get(PROBE, 0)) is not int:
            raise damaged("its header is invalid")
        header = Header(fingerprint, coding, torch, dtype, shape, parsed, blocks)
        header.check_rows()
        return header

    def _block(self) -> Block:
        is_stored = self.version == STORED_VERSION and bool(self.take(1)[0])
        count = self.number()
        plain = self.number()
        if plain > count:
            raise damaged("its header is invalid")
        size = self.number()
        sum_bytes = self.checksum()
        return Block(count, plain, size, sum_bytes, self.checksum(), is_stored)


def to_words(payload: bytes) -> np.ndarray:
    """Return a block's bytes as the coder's words."""
    return np.frombuffer(payload, "<u4").astype(np.uint32)


def to_bytes(words: np.ndarray) -> bytes:
    """Return the coder's words as bytes, the low byte of each first."""
    return words.astype("<u4").tobytes()
