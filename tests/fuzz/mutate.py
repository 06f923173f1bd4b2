"""Mutations of files: of their bytes, and of the structure that the suffix of their name says.

All are drawn from one generator, so that a seed and a number name an input for ever.
"""

import bz2
import gzip
import lzma
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tests.fuzz.structures import mutate_cells, mutate_json, mutate_lines, mutate_npy, mutate_zip

__all__ = ["mutate", "mutate_bytes"]

MAGIC = (0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)
MOST_STEPS = 4  # mutations of bytes one after the other
LONGEST_BLOCK = 64
LARGEST = 2**22  # bytes of a mutated file: larger ones only make the battery slow
WIDTHS = (1, 2, 4, 8)

Draw = random.Random


def mutate(content: bytes, name: str, others: Sequence[bytes], draw: Draw) -> bytes:
    """Return a mutated file.

    Args:
        content: the bytes of a valid file.
        name: its name, whose suffix says which structure it has.
        others: the bytes of other valid files, parts of which may be put into it.
        draw: the source of all choices.
    """
    structure = _structure(name)
    if structure is not None and draw.random() < 0.5:
        return structure(content, draw)[:LARGEST]
    return mutate_bytes(content, others, draw)[:LARGEST]


def mutate_bytes(content: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    """Return the bytes after one to four mutations."""
    for _ in range(draw.randint(1, MOST_STEPS)):
        content = draw.choice(BYTE_MUTATIONS)(content, others, draw)
    return content


def _flip(content: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    if not content:
        return content
    position = draw.randrange(len(content))
    changed = content[position] ^ (1 << draw.randrange(8))
    return content[:position] + bytes([changed]) + content[position + 1 :]


def _cut(content: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    return content[: draw.randint(0, len(content))]


def _remove(content: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    start = draw.randint(0, len(content))
    return content[:start] + content[start + draw.randint(1, LONGEST_BLOCK) :]


def _insert(content: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    position = draw.randint(0, len(content))
    block = draw.choice((draw.randbytes(draw.randint(1, 8)), *INSERTED))
    return content[:position] + block + content[position:]


def _number(content: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    """Put a number at the edge of a width over the bytes, in either order."""
    width = draw.choice(WIDTHS)
    number = draw.choice(MAGIC) % 2 ** (8 * width)
    position = draw.randint(0, len(content))
    return (
        content[:position]
        + number.to_bytes(width, draw.choice(("little", "big")))
        + content[position + width :]
    )


def _repeat(content: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    start = draw.randint(0, len(content))
    block = content[start : start + draw.randint(1, LONGEST_BLOCK)]
    return content[:start] + block * draw.choice((2, 3, 100)) + content[start:]


def _splice(content: bytes, others: Sequence[bytes], draw: Draw) -> bytes:
    other = draw.choice(others) if others else content
    return content[: draw.randint(0, len(content))] + other[draw.randint(0, len(other)) :]


BYTE_MUTATIONS = (_flip, _flip, _cut, _remove, _insert, _number, _repeat, _splice)
INSERTED = (
    b"\0", b"\n", b"\r\n", b"\r", b'"', b'"""', b",", b"\t", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", b"\x1f\x8b", b"[" * 2000, b"NaN", b"-1", b"9" * 400, b"1e999",
)  # fmt: skip


def _compressed(
    decompress: Callable[[bytes], bytes], compress: Callable[[bytes], bytes], inner: str
) -> Callable[[bytes, Draw], bytes]:
    """Return the mutation of what a compressed file holds, with a checksum that is right."""

    def mutation(content: bytes, draw: Draw) -> bytes:
        return compress(mutate(decompress(content), inner, (), draw))

    return mutation


def _structure(name: str) -> Callable[[bytes, Draw], bytes] | None:
    """Return the mutation of the structure of a file; None for a file of bytes alone."""
    inner, _, suffix = name.lower().rpartition(".")
    if suffix in CODECS:
        decompress, compress = CODECS[suffix]
        return _compressed(decompress, compress, inner)
    if suffix in ("zip", "npz"):
        return lambda content, draw: mutate_zip(
            content, lambda part, entry: mutate(part, entry, (), draw), draw
        )
    return STRUCTURES.get(suffix)


CODECS: Mapping[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gz": (gzip.decompress, partial(gzip.compress, mtime=0)),
    "bz2": (bz2.decompress, bz2.compress),
    "xz": (lzma.decompress, lzma.compress),
}
STRUCTURES: Mapping[str, Callable[[bytes, Draw], bytes]] = {
    "json": mutate_json,
    "jsonl": mutate_lines,
    "csv": mutate_cells,
    "tsv": mutate_cells,
    "npy": mutate_npy,
}
