"""A corpus returns its texts and their totals, and refuses damaged files."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.damage import flip_a_bit
from univae.errors import InputError
from univae.text import fingerprint as fingerprint_module
from univae.text.corpus import Corpus, Encoder, fingerprint_texts, read_lines
from univae.text.special import END, PAD
from univae.text.tokenizers import TOKENIZERS, Tokenizer, pad, train_tokenizer

TEXTS = ["the cat sat", "a 世界 cat", "", "on the mat on the mat", "naïve \r café", "🙂"] * 3
BYTES = train_tokenizer("bytes", [])


@pytest.fixture(params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(request.param, TEXTS, vocab_size=300)


class Constant:
    """The least an encoder can be: every character is the last id of the vocabulary."""

    pad = PAD
    end = END

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self.vocab_size - 1] * len(text) for text in texts]

    def unknown(self, text: str) -> int:
        return 0

    def to_json(self) -> dict[str, int]:
        return {"vocab_size": self.vocab_size}


def test_a_corpus_is_its_encoded_texts_each_with_one_end(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    corpus = Corpus.build(iter(TEXTS), tokenizer, tmp_path / "new" / "corpus", max_length=100)
    assert isinstance(tokenizer, Encoder)
    assert len(corpus) == len(TEXTS)
    for i, ids in enumerate(tokenizer.encode_batch(TEXTS)):
        assert corpus[i].tolist() == corpus[i - len(TEXTS)].tolist() == [*ids, END]
        assert corpus.lengths[i] == len(ids) + 1


def test_gathering_is_padding_the_texts_one_by_one(tmp_path: Path, tokenizer: Tokenizer) -> None:
    corpus = Corpus.build(TEXTS, tokenizer, tmp_path, max_length=100)
    rows = [3, 0, 3, -1, 2]
    torch.testing.assert_close(corpus.gather(rows), pad([tokenizer.encode(TEXTS[i]) for i in rows]))
    torch.testing.assert_close(corpus.gather(np.array([2])), torch.tensor([[END]]))
    assert corpus.gather([]).shape == (0, 0)
    assert corpus.gather([3, 2])[1, 1:].eq(PAD).all()


def test_totals_are_those_of_the_texts_kept(tmp_path: Path) -> None:
    texts = ["ab cd", "é", "x" * 10, "x" * 9]
    # nine tokens and the END fit, ten do not
    corpus = Corpus.build(texts, BYTES, tmp_path, max_length=10)
    assert corpus.totals == {
        "texts": 3,
        "dropped": 1,
        "tokens": 6 + 3 + 10,
        "characters": 5 + 1 + 9,
        "words": 4,
        "bytes": 5 + 2 + 9,
        "unknown_words": 0,
    }
    assert [BYTES.decode(corpus[i]) for i in range(3)] == ["ab cd", "é", "x" * 9]


def test_unknown_words_are_counted_and_a_literal_unk_is_none(tmp_path: Path) -> None:
    tokenizer = train_tokenizer("words", ["a b <unk>"], vocab_size=10)
    corpus = Corpus.build(["a zebra <unk> emu", "b"], tokenizer, tmp_path, max_length=10)
    assert (corpus.totals["unknown_words"], corpus.totals["words"], corpus.totals["tokens"]) == (
        2,
        5,
        7,
    )


def test_batches_of_any_size_write_the_same_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Corpus.build(TEXTS, BYTES, tmp_path / "whole", max_length=20)
    monkeypatch.setattr(fingerprint_module, "BATCH_TEXTS", 5)
    read: list[int] = []
    pieces = Corpus.build(TEXTS, BYTES, tmp_path / "pieces", max_length=20, progress=read.append)
    for name in ("ids.bin", "offsets.npy", "corpus.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "pieces" / name).read_bytes()
    assert (len(read), sum(read)) == (4, sum(len(text.encode()) for text in TEXTS))
    assert pieces.totals == whole.totals
    assert sorted(path.name for path in pieces.folder.iterdir()) == [
        "corpus.json",
        "ids.bin",
        "offsets.npy",
    ]


@pytest.mark.parametrize(("vocab_size", "width"), [(2**16, 2), (2**16 + 1, 4)])
def test_ids_take_two_bytes_while_they_can(tmp_path: Path, vocab_size: int, width: int) -> None:
    corpus = Corpus.build(["x"], Constant(vocab_size), tmp_path, max_length=5)
    assert corpus[0].tolist() == [vocab_size - 1, END]
    assert (tmp_path / "ids.bin").stat().st_size == 2 * width


def test_the_same_source_is_opened_and_not_built_again(tmp_path: Path) -> None:
    Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    before = (tmp_path / "corpus.json").stat().st_mtime_ns
    assert (
        Corpus.build(iter(TEXTS), BYTES, tmp_path, max_length=50).totals
        == Corpus.open(tmp_path).totals
    )
    assert (tmp_path / "corpus.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("texts", "kind", "max_length", "changed"),
    [
        ([*TEXTS, "more"], "bytes", 50, "texts"),
        ([TEXTS[0] + TEXTS[1], *TEXTS[2:]], "bytes", 50, "texts"),  # the same bytes, cut elsewhere
        (TEXTS, "chars", 50, "tokenizer"),
        (TEXTS, "bytes", 51, "max_length"),
    ],
)
def test_a_changed_source_is_noticed(
    tmp_path: Path, texts: list[str], kind: str, max_length: int, changed: str
) -> None:
    Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    with pytest.raises(
        InputError, match=rf"was built with other {changed}; delete the folder or choose another"
    ):
        Corpus.build(texts, train_tokenizer(kind, TEXTS, 300), tmp_path, max_length=max_length)


def test_an_interrupted_build_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint_module, "BATCH_TEXTS", 5)

    def broken():
        yield from TEXTS
        raise InputError("line 19 is bad")

    with pytest.raises(InputError, match="line 19"):
        Corpus.build(broken(), BYTES, tmp_path, max_length=50)
    with pytest.raises(InputError, match=r"holds no finished corpus; build one"):
        Corpus.open(tmp_path)
    corpus = Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    assert [BYTES.decode(corpus[i]) for i in range(len(corpus))] == TEXTS


@pytest.mark.parametrize("name", ["ids.bin", "offsets.npy", "corpus.json"])
def test_a_damaged_corpus_is_refused(tmp_path: Path, name: str) -> None:
    Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-8])
    with pytest.raises(
        InputError, match=r"damaged files \(.*\); delete the folder and build again"
    ):
        Corpus.open(tmp_path)


@pytest.mark.parametrize("name", ["ids.bin", "offsets.npy"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    flip_a_bit(tmp_path / name, -16)
    with pytest.raises(InputError, match=r"damaged files \(.*\); delete the folder"):
        Corpus.open(tmp_path)


def test_a_corpus_of_an_earlier_version_without_digests_is_opened(tmp_path: Path) -> None:
    built = Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    state = json.loads((tmp_path / "corpus.json").read_text())
    del state["digests"]
    (tmp_path / "corpus.json").write_text(json.dumps(state))
    assert Corpus.open(tmp_path, BYTES).totals == built.totals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pad": 10**9}, r"pad and dtype of ids must be \(\d+, '<u2'\)"),
        ({"pad": -1}, "pad and dtype of ids"),
        ({"recipe": {"tokenizer": "x"}}, "was built with other tokenizer"),
    ],
)
def test_a_corpus_of_another_tokenizer_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    state = json.loads((tmp_path / "corpus.json").read_text())
    (tmp_path / "corpus.json").write_text(json.dumps({**state, **change}))
    with pytest.raises(InputError, match=message):
        Corpus.open(tmp_path, BYTES)


NPY = b"\x93NUMPY\x01\x00v\x00"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "offsets.npy",
            NPY + b"{'descr': '<i8', 'fortran_order': False, 'shape': (3,".ljust(117) + b"\n",
        ),
        (
            "offsets.npy",
            NPY
            + b"{'descr': '<i8', 'fortran_order': False, 'shape': (True, 2)}".ljust(117)
            + b"\n",
        ),
        ("corpus.json", b"[" * 100_000),
        ("corpus.json", b"[1, 2]"),
        ("corpus.json", b'{"recipe": {}, "pad": 0, "dtype": "<u2", "totals": {"texts": 18}}'),
        ("corpus.json", b'{"recipe": {}, "pad": 0, "dtype": "<u2", "totals": [18, 4]}'),
        ("corpus.json", b'{"recipe": {}, "pad": 0, "dtype": "<U0", "totals": {"texts": 18}}'),
    ],
)
def test_a_corpus_file_of_another_kind_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=r"damaged files \(.*\); delete the folder and build again"
    ) as refusal:
        Corpus.open(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "offsets", [[0.0, 2.0, 4.0], [[0, 2, 4]], [0, 5, 4], [1, 2, 4], [0, 0, 4], [0, 2, 3]]
)
def test_offsets_that_do_not_cut_the_ids_into_texts_are_refused(
    tmp_path: Path, offsets: list
) -> None:
    Corpus.build(["a", "b"], BYTES, tmp_path, max_length=50)
    np.save(tmp_path / "offsets.npy", np.array(offsets))
    with pytest.raises(
        InputError, match=r"damaged files \(.*\); delete the folder and build again"
    ):
        Corpus.open(tmp_path)


def test_a_corpus_without_a_text_that_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"at most max_length=4 tokens; got 2 longer ones; raise max_length"
    ):
        Corpus.build(["abcd", "abcde"], BYTES, tmp_path, max_length=4)


@pytest.mark.slow
def test_building_takes_far_less_memory_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    # few words and a fast encoder: tracing allocations is slow
    path.write_text(("x" * 999 + "\n") * 20_000)
    tracemalloc.start()
    corpus = Corpus.build(read_lines(path), Constant(100), tmp_path / "corpus", max_length=2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert corpus.totals["bytes"] + corpus.totals["texts"] == path.stat().st_size
    # measured: 7.6 MB at any file size, one batch of half a million tokens
    assert peak < path.stat().st_size / 2


def test_the_fingerprint_of_texts_is_that_of_their_corpus(tmp_path: Path) -> None:
    corpus = Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    assert fingerprint_texts(iter(TEXTS)) == (len(TEXTS), corpus.recipe["texts"])
    assert fingerprint_texts(TEXTS[1:] + TEXTS[:1])[1] != corpus.recipe["texts"]


def test_the_state_is_plain_json_without_paths(tmp_path: Path) -> None:
    Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    state = json.loads((tmp_path / "corpus.json").read_text())
    assert set(state) == {"totals", "recipe", "dtype", "pad", "digests"}
    assert str(tmp_path) not in json.dumps(state)
