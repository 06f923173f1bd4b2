"""The file of compressed rows: a header and blocks that can be decoded separately, with checksums.

A file holds, in this order: ``magic`` and version; the fingerprint of the model; coder, particles,
tile, order of layers; the version of torch; dtype and shape of the data; notes as JSON; of every
block the number of rows, of those coded without latents, of bytes, and the checksums of bytes and
of rows; a checksum of all that; the bytes of the blocks. Whole numbers are in base 128, the low
digits first. The checksum of bytes is verified before decoding, that of rows before they are
returned.
"""

import json
import zlib
from dataclasses import dataclass, field

import numpy as np

from density.coding.data_code import Coding
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["Block", "Header", "pack", "to_bytes", "to_words", "unpack"]

MAGIC = b"uVAE"
VERSION = 1
CODER = 1  # constriction's default asymmetric numeral system with tables of 24 bits
FINGERPRINT = 32  # bytes
CHECKSUM = 4  # bytes
LARGEST = 2**62  # of a whole number in a header

DIGIT_BITS = 7  # of a whole number per byte; the highest bit is set if another byte follows
BASE = 2**DIGIT_BITS
LONGEST = 63  # bits of a whole number: nine digits


@dataclass(frozen=True)
class Block:
    """A message that can be decoded without the others."""

    count: int  # rows
    plain: int  # rows coded without latents
    size: int  # bytes
    sum_bytes: int  # CRC-32 of the bytes
    sum_data: int  # CRC-32 of the rows


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

    def check(self, fingerprint: bytes) -> None:
        """Raise :class:`InputError` if another model wrote the file."""
        if self.fingerprint != fingerprint:
            raise InputError(
                f"container: the model must be {self.fingerprint.hex()[:16]}, the writer's; "
                f"got {fingerprint.hex()[:16]}; use the unchanged run that wrote it"
            )


def pack(header: Header, payloads: list[bytes]) -> bytes:
    """Return the bytes of a file."""
    coding = header.coding
    notes = json.dumps(header.notes, separators=(",", ":")) if header.notes else ""
    fields = [MAGIC, bytes([VERSION]), header.fingerprint]
    fields += [_number(n) for n in (CODER, coding.particles, coding.tile, coding.swap)]
    fields += [_text(header.torch), _text(header.dtype)]
    fields += [_number(n) for n in (len(header.shape), *header.shape)]
    fields += [_text(notes), _number(len(header.blocks))]
    for block in header.blocks:
        fields += [_number(n) for n in (block.count, block.plain, block.size)]
        fields += [_checksum(block.sum_bytes), _checksum(block.sum_data)]
    head = b"".join(fields)
    return b"".join([head, _checksum(zlib.crc32(head)), *payloads])


def unpack(content: bytes) -> tuple[Header, list[bytes]]:
    """Return header and bytes of the blocks.

    Raises:
        InputError: the content is no file of :func:`pack`, or is damaged, or of another version.
    """
    if content[: len(MAGIC)] != MAGIC:
        raise InputError("container: not a file of univae compress; give one of these")
    version = content[len(MAGIC) : len(MAGIC) + 1]
    if version != bytes([VERSION]):
        file_version = version[0] if version else "none"
        raise InputError(
            f"container: the format must be version {VERSION}; got {file_version}; "
            "use the univae that wrote the file"
        )
    reader = _Reader(content)
    header = reader.header()
    start = reader.position
    payloads = []
    for i, block in enumerate(header.blocks):
        payload = content[start : start + block.size]
        if zlib.crc32(payload) != block.sum_bytes:
            raise _damaged(f"block {i} of {len(header.blocks)} does not match its checksum")
        payloads.append(payload)
        start += block.size
    if start != len(content):
        raise _damaged(f"{len(content)} bytes instead of {start}")
    return header, payloads


class _Reader:
    """Reads fields of a header from the bytes of a file, in order."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = len(MAGIC) + 1

    def header(self) -> Header:
        """Return the header, after a check of its checksum."""
        try:
            return self._header()
        except InputError:
            raise
        except (ValueError, IndexError, OverflowError, TypeError) as error:
            raise _damaged("its header is invalid") from error

    def _header(self) -> Header:
        fingerprint = self._take(FINGERPRINT)
        coder = self._number()
        particles = self._number()
        tile = self._number()
        swap = bool(self._number())
        torch = self._text()
        dtype = self._text()
        shape = tuple(self._number() for _ in range(self._number()))
        notes = self._text()
        blocks = tuple(self._block() for _ in range(self._number()))

        checksum = zlib.crc32(self.content[: self.position])
        if self._checksum() != checksum:
            raise _damaged("its header does not match its checksum")
        if coder != CODER:
            raise InputError(
                f"container: the coder must be {CODER}; got {coder}; use a newer univae"
            )
        coding = Coding(particles, tile, swap)
        parsed = json.loads(notes) if notes else {}
        return Header(fingerprint, coding, torch, dtype, shape, parsed, blocks)

    def _block(self) -> Block:
        count = self._number()
        plain = self._number()
        size = self._number()
        sum_bytes = self._checksum()
        return Block(count, plain, size, sum_bytes, self._checksum())

    def _take(self, size: int) -> bytes:
        start = self.position
        if start + size > len(self.content):
            raise _damaged("it ends within its header")
        self.position += size
        return self.content[start : self.position]

    def _checksum(self) -> int:
        return int.from_bytes(self._take(CHECKSUM), "little")

    def _number(self) -> int:
        value: int = 0
        shift = 0
        while value < LARGEST and shift < LONGEST:
            byte = self._take(1)[0]
            value |= (byte % BASE) << shift
            shift += DIGIT_BITS
            if byte < BASE:
                return value
        raise _damaged("its header is invalid")

    def _text(self) -> str:
        return self._take(self._number()).decode("utf-8")


def _damaged(problem: str) -> InputError:
    return InputError(f"container: the file is damaged or cut short: {problem}; copy it again")


def _number(value: int) -> bytes:
    digits = bytearray()
    while value >= BASE:
        digits.append(value % BASE | BASE)
        value >>= DIGIT_BITS
    return bytes([*digits, value])


def _text(text: str) -> bytes:
    content = text.encode()
    return _number(len(content)) + content


def _checksum(value: int) -> bytes:
    return value.to_bytes(CHECKSUM, "little")


def to_words(payload: bytes) -> np.ndarray:
    """Return a block's bytes as the coder's words."""
    return np.frombuffer(payload, "<u4").astype(np.uint32)


def to_bytes(words: np.ndarray) -> bytes:
    """Return the coder's words as bytes, the low byte of each first."""
    return words.astype("<u4").tobytes()
