"""Damage to files, for tests of what reads them."""

from pathlib import Path

__all__ = ["flip_a_bit"]


def flip_a_bit(path: Path, place: int = -4) -> None:
    """Flip the lowest bit of one byte, by default of the last weight of float32 weights."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
