"""Sizes of general-purpose formats are those of files that decompress to the data."""

import bz2
import gzip
import lzma

import numpy as np

from experiments.evaluation.archivers import array_sizes, image_sizes, text_sizes, xz_primed

CONTENT = b"a line of text\n" * 200
BITS = np.random.default_rng(0).integers(0, 2, (40, 1, 8, 8), dtype=np.uint8)


def test_sizes_of_texts_are_those_of_the_files() -> None:
    sizes = text_sizes(CONTENT)
    assert sizes["gzip"] == len(gzip.compress(CONTENT, 9, mtime=0))
    assert sizes["bz2"] == len(bz2.compress(CONTENT, 9))
    assert sizes["xz"] == len(lzma.compress(CONTENT, preset=9 | lzma.PRESET_EXTREME))


def test_zeros_and_ones_are_packed_where_that_is_smaller() -> None:
    packed = text_sizes(np.packbits(BITS.reshape(40, -1), axis=1).tobytes())
    plain = text_sizes(BITS.tobytes())
    assert array_sizes(BITS) == {name: min(plain[name], packed[name]) for name in plain}
    assert array_sizes(BITS)["gzip"] < plain["gzip"]
    assert array_sizes(2 * BITS) == text_sizes((2 * BITS).tobytes())


def test_images_add_the_sum_of_their_png() -> None:
    sizes = image_sizes(BITS, 2)
    assert {name: size for name, size in sizes.items() if name != "png"} == array_sizes(BITS)
    assert 40 * 60 < sizes["png"] < image_sizes(255 * BITS, 256)["png"]


def test_xz_that_has_read_the_text_before_adds_little() -> None:
    assert xz_primed(CONTENT, CONTENT) < text_sizes(CONTENT)["xz"]
