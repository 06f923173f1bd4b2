"""Content without a model: no longer than xz makes it, and blocks that a model makes longer."""

import lzma
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from density.coding.archive import Archive, is_archive, pack_archive, unpack_archive
from density.coding.bits_back import BitsBack
from density.coding.blocks import decode, encode
from density.coding.container import Header, pack, unpack
from density.coding.data_code import Coding
from density.coding.exact import exactly, prepared
from density.coding.fields import CHECKSUM, checksum_field, text_field
from density.coding.levels import compact, from_compact
from density.coding.pixel_codes import pixel_code
from density.coding.stored import MOST_EXPANSION, expand, squeeze
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from univae.errors import InputError

XZ = 9 | lzma.PRESET_EXTREME


@given(st.binary(max_size=300), st.integers(1, 400))
def test_a_stored_content_is_never_longer_than_xz_and_64_bytes(part: bytes, times: int) -> None:
    content = part * times
    packed = pack_archive(Archive({"dtype": "<f4", "shape": [1000, 3, 32, 32]}, content))
    assert len(packed) <= len(lzma.compress(content, preset=XZ)) + 64
    assert unpack_archive(packed).stored == content


def test_an_archive_comes_back_with_facts_and_rows() -> None:
    archive = Archive({"folder": 3}, b"names", b"rows")
    packed = pack_archive(archive)
    assert is_archive(packed)
    assert unpack_archive(packed) == archive


def test_every_flipped_bit_and_every_cut_of_the_stored_part_is_noticed() -> None:
    packed = pack_archive(Archive({"text": 1}, b"some text"))
    for place in range(5, len(packed)):
        broken = bytearray(packed)
        broken[place] ^= 1 << place % 8
        with pytest.raises(InputError, match=r"^decompress: the file is damaged"):
            unpack_archive(bytes(broken))
    for size in range(5, len(packed)):
        with pytest.raises(InputError, match=r"^decompress: the file is damaged"):
            unpack_archive(packed[:size])
    with pytest.raises(InputError, match=r"bytes instead of"):
        unpack_archive(packed + b"x")


def test_no_more_is_expanded_than_a_file_says() -> None:
    with pytest.raises(InputError, match="a stored part holds 11 bytes or more instead of 10"):
        expand(squeeze(bytes(10**6)), 10)
    with pytest.raises(InputError, match="holds 3 bytes or more instead of 10"):
        expand(squeeze(b"abc"), 10)


@pytest.mark.parametrize("size", [2**40, 2**62, 2**64 - 1])
def test_a_size_beyond_what_a_stream_can_hold_is_refused_before_it_is_expanded(size: int) -> None:
    with pytest.raises(InputError, match=rf"a stored part of \d+ bytes cannot hold {size}"):
        expand(squeeze(b"abc"), size)


@pytest.mark.parametrize("size", [0, 1, 2**16, 2**24])
def test_the_most_compressible_content_stays_below_the_bound_of_a_stream(size: int) -> None:
    stream = squeeze(bytes(size))
    assert size <= MOST_EXPANSION * len(stream)
    assert expand(stream, size) == bytes(size)


def test_facts_that_are_nested_without_end_are_called_damaged() -> None:
    packed = pack_archive(Archive({}, b""))
    facts = text_field("[" * 10**5)
    rest = packed[5 + len(text_field("{}")) : -1 - CHECKSUM]
    head = packed[:5] + facts + rest
    hostile = head + checksum_field(zlib.crc32(head)) + squeeze(b"")
    with pytest.raises(InputError, match=r"^decompress: the file is damaged .* header is invalid"):
        unpack_archive(hostile)


@pytest.mark.parametrize("levels", [2, 17, 256, 257, 70_000])
def test_levels_come_back_from_as_few_bytes_as_they_need(levels: int) -> None:
    values = np.random.default_rng(0).integers(0, levels, (5, 3, 3))
    content = compact(values, levels)
    size = {2: 5 * 2, 17: 45, 256: 45, 257: 90, 70_000: 180}[levels]
    assert len(content) == size
    again = from_compact(content, levels, values.shape)
    np.testing.assert_array_equal(again, values)
    with pytest.raises(ValueError, match="reshape"):
        from_compact(content, levels, (7, 3, 3))


@pytest.fixture
def coder() -> BitsBack[np.ndarray]:
    torch.manual_seed(0)
    model = prepared(MLPVAE(Pixels((12,), "logistic", 256), (2,), ((4,),)))
    coding = Coding()
    return BitsBack(model, pixel_code(model, (12,), 1), coding)


def test_only_the_blocks_that_a_model_makes_longer_are_stored(coder: BitsBack[np.ndarray]) -> None:
    draw = np.random.default_rng(0)
    constant = np.full((20, 12), 7)
    likely = draw.integers(120, 136, (20, 12))
    rows = np.concatenate([constant, likely, constant])
    header = Header(bytes(32), Coding(), "2.0", "|u1", rows.shape)
    with exactly():
        plain, plain_account = encode(coder, rows, header, block=20)
        packed, account = encode(coder, rows, header, block=20, store=True)
        read_header, payloads = unpack(packed)
        again = decode(coder, read_header, payloads)
        third = decode(coder, read_header, payloads, block=2)
    assert plain[4] == 1  # the version that earlier releases read
    assert packed[4] == 2
    assert len(packed) < len(plain)
    assert plain_account.stored_blocks == 0
    stored = [block.is_stored for block in read_header.blocks]
    assert account.stored_blocks == sum(stored)
    assert stored[0]
    assert stored[2]
    assert account.bits == 8 * sum(map(len, payloads))
    np.testing.assert_array_equal(again, rows)
    np.testing.assert_array_equal(third, constant)


def test_a_block_of_another_content_is_refused(coder: BitsBack[np.ndarray]) -> None:
    rows = np.full((20, 12), 7)
    header = Header(bytes(32), Coding(), "2.0", "|u1", rows.shape)
    with exactly():
        first, _ = encode(coder, rows, header, store=True)
        second, _ = encode(coder, rows + 1, header, store=True)
        with pytest.raises(InputError, match="rows of block 0 do not match"):
            decode(coder, unpack(first)[0], unpack(second)[1])


@pytest.mark.parametrize(
    ("count", "plain", "message"),
    [
        (20, 21, "its header is invalid"),
        (2**50, 2**50, rf"a block of \d+ bytes declares {2**50} rows"),
    ],
)
def test_a_block_of_more_rows_than_its_bytes_can_hold_is_refused(
    coder: BitsBack[np.ndarray], count: int, plain: int, message: str
) -> None:
    rows = np.full((20, 12), 7)
    with exactly():
        packed, _ = encode(coder, rows, Header(bytes(32), Coding(), "2.0", "|u1", rows.shape))
        header, payloads = unpack(packed)
        block = replace(header.blocks[0], count=count, plain=plain)
        hostile = pack(replace(header, blocks=(block,)), payloads)
        with pytest.raises(
            InputError, match=f"^decompress: the file is (damaged|refused).*{message}"
        ):
            decode(coder, *unpack(hostile))
