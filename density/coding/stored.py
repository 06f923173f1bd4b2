"""Bytes stored without a model: one LZMA2 stream, as in an xz file, without its header and index.

The stream of the strongest preset is never longer than the xz file of the same bytes.
"""

import lzma

from density.coding.fields import damaged

__all__ = ["expand", "squeeze"]

STRONGEST = 9  # preset of LZMA2
SMALLEST_WINDOW = 4096  # bytes, of the format
LARGEST_WINDOW = 64 * 2**20  # bytes, of the preset
# Bytes that a byte of a stream expands to at most: a match of 273 bytes, the longest, takes 14
# binary decisions, and each at least log2(2048 / 2017) bits.
MOST_EXPANSION = 2**13


def squeeze(content: bytes) -> bytes:
    """Return the content as one LZMA2 stream."""
    # Preparing the largest window takes longer than compressing a small content.
    window = min(max(SMALLEST_WINDOW, len(content)), LARGEST_WINDOW)
    return lzma.compress(content, lzma.FORMAT_RAW, filters=_filters(window))


def expand(stream: bytes, size: int) -> bytes:
    """Return the ``size`` bytes of a stream of :func:`squeeze`.

    No more than ``size`` bytes and one are ever expanded, whatever the stream holds, and none where
    ``size`` is more than a stream of this length can hold.

    Raises:
        InputError: the stream is damaged, or of another size.
    """
    if size > MOST_EXPANSION * len(stream):
        raise damaged(f"a stored part of {len(stream)} bytes cannot hold {size}")
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(LARGEST_WINDOW))
    try:
        content = decoder.decompress(stream, max_length=size + 1)
    except lzma.LZMAError as error:
        raise damaged("a stored part cannot be expanded") from error
    if len(content) != size:
        raise damaged(f"a stored part holds {len(content)} bytes or more instead of {size}")
    return content


def _filters(window: int) -> list[dict[str, int]]:
    preset = STRONGEST | lzma.PRESET_EXTREME
    return [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": window}]
