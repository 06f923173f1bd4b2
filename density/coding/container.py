"""The file of compressed data: who wrote it and how, then blocks that stand alone, each with two checksums.

A file holds, in this order: ``magic`` and version; the fingerprint of the model; coder, particles,
tile, order of layers; the version of torch; dtype and shape of the data; notes as JSON; of every
block the number of data, of those coded without latents, of bytes, and the checksums of bytes and
of data; a checksum of all that; the bytes of the blocks. Whole numbers are in base 128, the low
digits first. Whatever is not such a file is refused with a line that says why: nothing is decoded
before its checksum agrees, and nothing decoded is returned before its own does.
"""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from density.coding.data_code import Coding
from univae.errors import InputError

__all__ = ["Block", "Header", "pack", "to_bytes", "to_words", "unpack"]

MAGIC = b"uVAE"
VERSION = 1
CODER = 1  # constriction's default asymmetric numeral system with tables of 24 bits
FINGERPRINT = 32  # bytes
LARGEST = 2**62  # of a whole number in a header


@dataclass(frozen=True)
class Block:
    """A message that can be read without the others."""

    count: int  # data
    plain: int  # data coded without latents
    size: int  # bytes
    sum_bytes: int  # CRC-32 of the bytes
    sum_data: int  # CRC-32 of the data


@dataclass(frozen=True)
class Header:
    """What a reader must know; ``blocks`` are those of the file."""

    fingerprint: bytes
    coding: Coding
    torch: str
    dtype: str  # of the data as they came; "text" for lines
    shape: tuple[int, ...]  # of the data as they came
    notes: dict[str, Any] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()

    @property
    def count(self) -> int:
        """The number of data as the codec counts them."""
        return sum(block.count for block in self.blocks)

    def check(self, fingerprint: bytes) -> None:
        """Raise :class:`InputError` if another model wrote the file."""
        if self.fingerprint != fingerprint:
            raise InputError(
                f"container: written by the model {self.fingerprint.hex()[:16]}; this one is {fingerprint.hex()[:16]}; "
                "open it with the run that wrote it, unchanged"
            )


def pack(header: Header, payloads: list[bytes]) -> bytes:
    """The bytes of a file."""
    coding = header.coding
    notes = json.dumps(header.notes, separators=(",", ":")) if header.notes else ""
    parts = [MAGIC, bytes([VERSION]), header.fingerprint]
    parts += [_number(n) for n in (CODER, coding.particles, coding.tile, coding.swap)]
    parts += [_text(text) for text in (header.torch, header.dtype)]
    parts += [_number(n) for n in (len(header.shape), *header.shape)]
    parts += [_text(notes), _number(len(header.blocks))]
    for block in header.blocks:
        parts += [_number(n) for n in (block.count, block.plain, block.size)]
        parts += [block.sum_bytes.to_bytes(4, "little"), block.sum_data.to_bytes(4, "little")]
    head = b"".join(parts)
    return b"".join([head, zlib.crc32(head).to_bytes(4, "little"), *payloads])


def unpack(content: bytes) -> tuple[Header, list[bytes]]:
    """Header and bytes of the blocks.

    :class:`InputError` for anything that :func:`pack` did not write.
    """
    if content[:4] != MAGIC:
        raise InputError("container: not a file that univae compress wrote; give one of these")
    if content[4:5] != bytes([VERSION]):
        found = content[4] if len(content) > 4 else "none"
        raise InputError(
            f"container: this reads version {VERSION}; the file says {found}; use the version it is of"
        )
    reader = _Reader(content)
    header = reader.header()
    at = reader.at
    payloads = []
    for i, block in enumerate(header.blocks):
        payloads.append(content[at : at + block.size])
        at += block.size
        if zlib.crc32(payloads[-1]) != block.sum_bytes:
            raise _damaged(f"block {i} of {len(header.blocks)} does not match its checksum")
    if at != len(content):
        raise _damaged(f"{len(content)} bytes where {at} belong")
    return header, payloads


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = len(MAGIC) + 1

    def header(self) -> Header:
        try:
            return self._header()
        except (ValueError, IndexError, OverflowError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise _damaged("its header makes no sense") from error

    def _header(self) -> Header:
        fingerprint = self._take(FINGERPRINT)
        coder, particles, tile, swap = (self._number() for _ in range(4))
        torch = self._text()
        dtype = self._text()
        shape = tuple(self._number() for _ in range(self._number()))
        notes = self._text()
        blocks = tuple(self._block() for _ in range(self._number()))
        total = zlib.crc32(self.content[: self.at])
        if int.from_bytes(self._take(4), "little") != total:
            raise _damaged("its header does not match its checksum")
        if coder != CODER:
            raise InputError(
                f"container: this reads coder {CODER}; the file says {coder}; use a newer version"
            )
        coding = Coding(particles, tile, bool(swap))
        return Header(
            fingerprint, coding, torch, dtype, shape, json.loads(notes) if notes else {}, blocks
        )

    def _block(self) -> Block:
        counts = [self._number() for _ in range(3)]
        return Block(*counts, *(int.from_bytes(self._take(4), "little") for _ in range(2)))

    def _take(self, size: int) -> bytes:
        if self.at + size > len(self.content):
            raise _damaged("it ends within its header")
        self.at += size
        return self.content[self.at - size : self.at]

    def _number(self) -> int:
        value = 0
        shift = 0
        while value < LARGEST and shift < 63:
            (digit,) = self._take(1)
            value |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return value
        raise _damaged("its header makes no sense")

    def _text(self) -> str:
        return self._take(self._number()).decode("utf-8")


def _damaged(how: str) -> InputError:
    return InputError(f"container: the file is damaged or cut short: {how}; copy it again")


def _number(value: int) -> bytes:
    digits = bytearray()
    while value >= 128:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _text(text: str) -> bytes:
    return _number(len(text.encode())) + text.encode()


def to_words(payload: bytes) -> np.ndarray:
    """A block's bytes as the coder's words."""
    return np.frombuffer(payload, "<u4").astype(np.uint32)


def to_bytes(words: np.ndarray) -> bytes:
    """The coder's words, little end first."""
    return words.astype("<u4").tobytes()
