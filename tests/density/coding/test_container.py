"""The file of compressed rows: any other content is refused, with a reason."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

import density
from density.coding.bits_back import BitsBack
from density.coding.blocks import decode
from density.coding.container import (
    EARLIER_ROWS,
    FREE_ROWS,
    PROBE,
    ROWS_PER_BYTE,
    Block,
    Header,
    pack,
    unpack,
)
from density.coding.data_code import Coding
from density.coding.exact import exactly, fingerprint, prepared
from density.coding.pixel_codes import pixel_code
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from univae.errors import InputError
from univae.vae.config import UniVAEConfig


def model(seed: int = 0) -> MLPVAE:
    torch.manual_seed(seed)
    return MLPVAE(Pixels((6,)), (2,), ((4,),))


def coder_of(of: MLPVAE) -> BitsBack[np.ndarray]:
    exact = prepared(of)
    return BitsBack(exact, pixel_code(exact, (6,), 1), Coding())


DATA = np.random.default_rng(0).integers(2, size=(40, 6))


@pytest.fixture
def content() -> bytes:
    return density.compress(model(), DATA, block=25)


def test_a_header_comes_back() -> None:
    payloads = [b"", b"some bytes" * 40]
    blocks = tuple(
        Block(n, n // 2, len(p), 0, 2**32 - 1)
        for n, p in zip((3, FREE_ROWS), payloads, strict=True)
    )
    header = Header(
        bytes(range(32)), Coding(300, 7, False), "2.0", "<f4", (2**33, 1, 0), {"é": [1]}, blocks
    )
    with pytest.raises(InputError, match=r"block 1 of 2 does not match its checksum"):
        unpack(pack(header, payloads))
    whole = Header(bytes(32), Coding(), "2.0", "text", (), {}, ())
    assert unpack(pack(whole, [])) == (whole, [])
    import zlib

    sums = [zlib.crc32(p) for p in payloads]
    right = tuple(
        Block(b.count, b.plain, b.size, s, b.sum_data) for b, s in zip(blocks, sums, strict=True)
    )
    header = Header(
        header.fingerprint, header.coding, "2.0", "<f4", header.shape, header.notes, right
    )
    assert unpack(pack(header, payloads)) == (header, payloads)


def test_the_header_is_short(content: bytes) -> None:
    header, payloads = unpack(content)
    assert len(content) - sum(map(len, payloads)) < 110
    assert header.count == 40


def test_every_flipped_bit_is_noticed(content: bytes) -> None:
    for place in range(len(content)):
        for bit in range(8):
            broken = bytearray(content)
            broken[place] ^= 1 << bit
            with pytest.raises(InputError, match=r"^decompress: "):
                unpack(bytes(broken))


def test_every_truncation_and_every_addition_is_noticed(content: bytes) -> None:
    for size in range(len(content)):
        with pytest.raises(InputError, match=r"^decompress: "):
            unpack(content[:size])
    with pytest.raises(InputError, match=r"instead of \d+; copy it again"):
        unpack(content + b"\0")


@pytest.mark.parametrize(
    "foreign", [b"", b"\x89PNG\r\n", b"uVAE", b"uVAE\x01" + b"\xff" * 500, b"\x1f\x8b" * 90]
)
def test_foreign_files_are_refused(foreign: bytes) -> None:
    with pytest.raises(InputError, match=r"^decompress: "):
        density.decompress(model(), foreign)


def test_another_version_is_named(content: bytes) -> None:
    with pytest.raises(InputError, match=r"must be version 1 or 2; got 9"):
        unpack(content[:4] + b"\x09" + content[5:])


def test_another_model_is_refused_with_both_fingerprints(content: bytes) -> None:
    first, second = (fingerprint(model(seed)).hex()[:16] for seed in (0, 1))
    assert first != second
    with pytest.raises(InputError, match=f"must be {first}, the writer's; got {second}"):
        density.decompress(model(1), content)


def test_a_fingerprint_is_of_weights_configuration_and_extra_fields() -> None:
    prints = {fingerprint(model()), fingerprint(model(), {"tokens": 1}), fingerprint(model(1))}
    flat = MLPVAE(Pixels((6,)), (2,), ((4,),), "relu")
    flat.load_state_dict(model().state_dict())
    prints.add(fingerprint(flat))
    assert len(prints) == 4
    assert fingerprint(model()) == fingerprint(model().eval())


def test_a_field_newer_than_a_file_changes_its_fingerprint_only_where_it_is_used() -> None:
    prints = []
    for newer in ("softmax", ""):
        for softmax in ("full", "adaptive"):
            config = UniVAEConfig(300, 8, 2, 2, 1, 2, softmax=softmax)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(UniVAEConfig, "NEWER", frozenset({newer}))
                linear = torch.nn.Linear(1, 1)
                torch.nn.init.ones_(linear.weight)
                torch.nn.init.ones_(linear.bias)
                linear.config = config
                prints.append(fingerprint(linear))
    full, adaptive, known_full, known_adaptive = prints
    assert adaptive == known_adaptive
    assert len({full, adaptive, known_full}) == 3


def test_another_arithmetic_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MLPVAE.decode
    monkeypatch.setattr(MLPVAE, "decode", lambda self, z: plain(self, z) * 1.01)
    with pytest.raises(
        InputError, match=r"this machine's arithmetic differs from the writer's \(torch "
    ):
        density.decompress(model(), content)


def test_arithmetic_is_no_reason_where_its_checksum_is_the_writers(content: bytes) -> None:
    header, payloads = unpack(content)
    block = replace(header.blocks[0], sum_data=header.blocks[0].sum_data ^ 1)
    other_rows = replace(header, blocks=(block, *header.blocks[1:]))
    with pytest.raises(InputError, match=r"^decompress: the file is damaged .*rows of block 0 do"):
        density.decompress(model(), pack(other_rows, payloads))

    without = {name: note for name, note in header.notes.items() if name != PROBE}
    earlier = replace(other_rows, notes=without)
    with pytest.raises(InputError, match=r"damaged, or this machine's arithmetic differs"):
        density.decompress(model(), pack(earlier, payloads))


def test_the_checksum_of_the_arithmetic_sees_the_last_digit() -> None:
    with exactly():
        coder = coder_of(model())
        assert coder.probe() == coder_of(model()).probe()
        exact = coder.probe()
        nearly = prepared(model())
        plain = nearly.posterior

        def posterior(x):
            q = plain(x)
            return Independent(Normal(q.mean * (1 + 2**-51), q.stddev), 1)

        nearly.posterior = posterior
        other = BitsBack(nearly, pixel_code(nearly, (6,), 1), Coding())
        assert other.probe() != exact


def test_a_message_that_ends_before_its_rows_is_damaged(content: bytes) -> None:
    header, payloads = unpack(content)
    longer = replace(header.blocks[0], count=FREE_ROWS)
    shape = (FREE_ROWS + sum(block.count for block in header.blocks[1:]), *header.shape[1:])
    hostile = replace(header, blocks=(longer, *header.blocks[1:]), shape=shape)
    calls = []
    with exactly(), pytest.raises(InputError, match=r"rows of block 0 do not match"):
        decode(coder_of(model()), hostile, payloads, progress=calls.append)
    assert sum(calls) < 1000


def test_more_rows_than_a_bit_each_are_refused_and_the_file_is_not_called_damaged(
    content: bytes,
) -> None:
    header, payloads = unpack(content)
    size = header.blocks[0].size
    most = max(FREE_ROWS, ROWS_PER_BYTE * size)
    assert header.blocks[0].most_rows == most

    def with_rows(count: int, notes: dict[str, int]) -> bytes:
        block = replace(header.blocks[0], count=count)
        return pack(replace(header, blocks=(block, *header.blocks[1:]), notes=notes), payloads)

    unpack(with_rows(most, header.notes))
    with pytest.raises(
        InputError, match=f"is refused: a block of {size} bytes declares {most + 1}"
    ):
        unpack(with_rows(most + 1, header.notes))
    unpack(with_rows(EARLIER_ROWS, {}))
    with pytest.raises(InputError, match=f"declares {EARLIER_ROWS + 1} rows, and may have"):
        unpack(with_rows(EARLIER_ROWS + 1, {}))


def test_a_file_of_an_earlier_version_with_a_long_block_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = torch.zeros(1000, 6)
    header, payloads = unpack(density.compress(model(), rows, block=1000))
    monkeypatch.setattr("density.coding.container.FREE_ROWS", 3)
    monkeypatch.setattr("density.coding.container.ROWS_PER_BYTE", 0)
    earlier = pack(replace(header, notes={}), payloads)
    assert density.decompress(model(), earlier).equal(rows)
    with pytest.raises(InputError, match="is refused"):
        density.decompress(model(), pack(header, payloads))


def test_a_block_is_written_with_at_most_65536_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FREE_ROWS == 65_536
    monkeypatch.setattr("density.coding.blocks.FREE_ROWS", 300)
    rows = torch.zeros(1000, 6)
    file = density.compress(model(), rows, block=10**9)
    assert [block.count for block in unpack(file)[0].blocks] == [300, 300, 300, 100]
    assert density.decompress(model(), file, block=3).equal(rows[900:])


@pytest.mark.parametrize("error", [ValueError, IndexError])
def test_the_checksum_of_the_arithmetic_takes_a_model_that_lacks_codes(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    with exactly():
        coder = coder_of(model())

        def lacking(*_: object) -> None:
            raise error("index out of range in self")

        monkeypatch.setattr(coder.code, "pop", lacking)
        assert coder.probe() == coder.probe()


@pytest.mark.parametrize(
    "change", [{"dtype": "|O"}, {"dtype": "<U9"}, {"dtype": "torch.nn"}, {"shape": (41, 6)}]
)
def test_a_header_that_contradicts_its_rows_is_damaged(
    content: bytes, change: dict[str, object]
) -> None:
    header, payloads = unpack(content)
    with pytest.raises(InputError, match=r"^decompress: the file is damaged .*declares 40 rows of"):
        density.decompress(model(), pack(replace(header, **change), payloads))


def test_rows_that_differ_from_those_written_are_not_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = MLPVAE.decode
    calls = []

    def drifting(self, z):
        calls.append(1)
        return plain(self, z) * (1 + 0.01 * len(calls))

    monkeypatch.setattr(MLPVAE, "decode", drifting)
    with pytest.raises(InputError, match=r"arithmetic differs|decoded data differ"):
        density.compress(model(), DATA)
