"""Bytes stored without a model: one LZMA2 stream, as in an xz file, without its header and index.

The stream of the strongest preset is never longer than the xz file of the same bytes.
"""

import lzma

from density.coding.fields import damaged

__all__ = ["expand", "squeeze"]

STRONGEST = 9  # preset of LZMA2
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": STRONGEST | lzma.PRESET_EXTREME}]


def squeeze(content: bytes) -> bytes:
    """Return the content as one LZMA2 stream."""
    return lzma.compress(content, lzma.FORMAT_RAW, filters=FILTERS)


def expand(stream: bytes, size: int) -> bytes:
    """Return the ``size`` bytes of a stream of :func:`squeeze`.

    No more than ``size`` bytes and one are ever expanded, whatever the stream holds.

    Raises:
        InputError: the stream is damaged, or of another size.
    """
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)
    try:
        content = decoder.decompress(stream, max_length=size + 1)
    except lzma.LZMAError as error:
        raise damaged("a stored part cannot be expanded") from error
    if len(content) != size:
        raise damaged(f"a stored part holds {len(content)} bytes or more instead of {size}")
    return content
