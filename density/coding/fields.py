"""Fields of a compressed file's header: whole numbers in base 128, texts and checksums."""

import zlib

from univae.errors import InputError

__all__ = [
    "MAGIC",
    "FieldReader",
    "checksum_field",
    "damaged",
    "number_field",
    "text_field",
    "version_of",
]

MAGIC = b"uVAE"  # the first bytes of every file
CHECKSUM = 4  # bytes
LARGEST = 2**62  # of a whole number in a header

DIGIT_BITS = 7  # of a whole number per byte; the highest bit is set if another byte follows
BASE = 2**DIGIT_BITS
LONGEST = 63  # bits of a whole number: nine digits


def version_of(content: bytes) -> int:
    """Return the version of a file's format, the byte after the first four.

    Raises:
        InputError: the content is no compressed file of univae.
    """
    if content[: len(MAGIC)] != MAGIC:
        raise InputError("decompress: not a file of univae compress; give one of these")
    if len(content) == len(MAGIC):
        raise damaged("it ends within its header")
    return content[len(MAGIC)]


def number_field(value: int) -> bytes:
    """Return a whole number in base 128, the low digits first."""
    digits = bytearray()
    while value >= BASE:
        digits.append(value % BASE | BASE)
        value >>= DIGIT_BITS
    return bytes([*digits, value])


def text_field(text: str) -> bytes:
    """Return the number of bytes of a text, and its bytes in UTF-8."""
    content = text.encode()
    return number_field(len(content)) + content


def checksum_field(value: int) -> bytes:
    """Return a CRC-32 as four bytes."""
    return value.to_bytes(CHECKSUM, "little")


class FieldReader:
    """Read the fields after magic and version, in their order.

    Every method raises :class:`InputError` where the file ends within the field.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = len(MAGIC) + 1

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        start = self.position
        if start + size > len(self.content):
            raise damaged("it ends within its header")
        self.position += size
        return self.content[start : self.position]

    def checksum(self) -> int:
        """Return a CRC-32."""
        return int.from_bytes(self.take(CHECKSUM), "little")

    def number(self) -> int:
        """Return a whole number."""
        value: int = 0
        shift = 0
        while value < LARGEST and shift < LONGEST:
            byte = self.take(1)[0]
            value |= (byte % BASE) << shift
            shift += DIGIT_BITS
            if byte < BASE:
                return value
        raise damaged("its header is invalid")

    def text(self) -> str:
        """Return a text."""
        return self.take(self.number()).decode("utf-8")

    def verify_header(self) -> None:
        """Raise :class:`InputError` unless the next field is the checksum of all bytes before."""
        expected = zlib.crc32(self.content[: self.position])
        if self.checksum() != expected:
            raise damaged("its header does not match its checksum")


def damaged(problem: str) -> InputError:
    """Return the error for a file that is not as it was written."""
    return InputError(f"decompress: the file is damaged or cut short: {problem}; copy it again")
