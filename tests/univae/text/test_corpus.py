"""A corpus gives back its texts, says what it holds, and cuts every epoch into full batches in bounded memory."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from univae.errors import InputError
from univae.text import corpus as corpus_module
from univae.text.corpus import (
    Corpus,
    Encoder,
    Removed,
    fingerprint_texts,
    numbered_lines,
    read_lines,
    split,
    token_batches,
)
from univae.text.special import END, PAD
from univae.text.tokenizers import Tokenizer, pad, train_tokenizer

TEXTS = ["the cat sat", "a 世界 cat", "", "on the mat on the mat", "naïve \r café", "🙂"] * 3
BYTES = train_tokenizer("bytes", [])


@pytest.fixture(params=["bytes", "chars", "words", "bpe"])
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
        "texts": 3, "dropped": 1, "tokens": 6 + 3 + 10, "characters": 5 + 1 + 9, "words": 4, "bytes": 5 + 2 + 9,
        "unknown_words": 0,
    }  # fmt: skip
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
    monkeypatch.setattr(corpus_module, "BATCH_TEXTS", 5)
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
        InputError, match=rf"was built with other {changed}; delete it or choose another folder"
    ):
        Corpus.build(texts, train_tokenizer(kind, TEXTS, 300), tmp_path, max_length=max_length)


def test_an_interrupted_build_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "BATCH_TEXTS", 5)

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
    with pytest.raises(InputError, match=r"is damaged \(.*\); delete it and build again"):
        Corpus.open(tmp_path)


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
    ],
)
def test_a_corpus_file_of_another_kind_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=r"is damaged \(.*\); delete it and build again"
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
    with pytest.raises(InputError, match=r"is damaged \(.*\); delete it and build again"):
        Corpus.open(tmp_path)


def test_a_corpus_without_a_text_that_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"at most max_length=4 tokens; got 2 longer ones; raise max_length"
    ):
        Corpus.build(["abcd", "abcde"], BYTES, tmp_path, max_length=4)


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


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"])), min_size=1
    )
)
@settings(deadline=None)
def test_lines_end_at_newlines_alone(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("lines") / "file.txt"
    path.write_bytes(("first\n" + "\n".join(lines)).encode())
    kept = [line.removesuffix("\r") for line in ["first", *lines]]
    assert list(read_lines(path)) == [line for line in kept if line.strip()]


def test_windows_line_ends_and_a_byte_order_mark_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"\xef\xbb\xbfone \r\n\r\n  \t\ntwo\x0bmore\r\n\xef\xbb\xbfthree\rfour")
    assert list(read_lines(path)) == ["one ", "two\x0bmore", "\ufeffthree\rfour"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"is no such file; give a UTF-8 file"),
        (b"", r"is empty; give a UTF-8 file"),
        (b"\n \r\n\n", r"has no line with a text; give a UTF-8 file"),
        (b"good\nb\xe4d\n", r"line 2, byte 6: not UTF-8 \(invalid continuation byte\); convert"),
        (b"good\ngood\nbad\0\n", r"line 3, byte 13: a NUL byte, so no UTF-8 text; convert"),
        (
            b"good\n" + b"x" * 101,
            r"line 2: a line may have 100 bytes, this one goes on; give one text per line",
        ),
    ],
)
def test_an_unreadable_file_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    monkeypatch.setattr(corpus_module, "LONGEST_LINE", 100)
    path = tmp_path / "file.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_lines(path))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; give a UTF-8 file"):
        list(read_lines(tmp_path))


def test_what_is_removed_of_a_file_is_counted_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    removed = Removed()
    path.write_bytes(b"\xef\xbb\xbf\none\r\n\r\n  \ntwo\n\nthree\r\n")
    assert list(numbered_lines(path, removed)) == [(2, "one"), (5, "two"), (7, "three")]
    assert removed == Removed(blank_lines=4, carriage_returns=2, byte_order_mark=True)
    assert removed.notes("file.txt") == [
        "file.txt: left out 4 blank lines, the carriage return at the end of 2 lines, a byte order mark"
    ]
    path.write_bytes(b"one\ntwo")
    assert list(read_lines(path, plain := Removed())) == ["one", "two"]
    assert plain.notes("file.txt") == []


def test_the_fingerprint_of_texts_is_that_of_their_corpus(tmp_path: Path) -> None:
    corpus = Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    assert fingerprint_texts(iter(TEXTS)) == (len(TEXTS), corpus.recipe["texts"])
    assert fingerprint_texts(TEXTS[1:] + TEXTS[:1])[1] != corpus.recipe["texts"]


@given(
    count=st.integers(2, 300), fraction=st.floats(0.001, 0.999), seed=st.integers(-(2**63), 2**63)
)
def test_a_split_parts_all_indices_the_same_way_every_time(
    count: int, fraction: float, seed: int
) -> None:
    train, held_out = split(count, fraction, seed)
    assert sorted([*train, *held_out]) == list(range(count))
    assert len(held_out) == min(max(round(count * fraction), 1), count - 1)
    assert all((np.diff(side) > 0).all() for side in (train, held_out))
    assert np.array_equal(split(count, fraction, seed)[1], held_out)


def test_another_seed_is_another_split() -> None:
    assert not np.array_equal(split(100, 0.5, 0)[1], split(100, 0.5, 1)[1])


@given(
    lengths=st.lists(st.integers(1, 40), max_size=300),
    max_tokens=st.integers(40, 400),
    seed=st.integers(-5, 5),
    epoch=st.integers(0, 3),
)
@settings(deadline=None)
def test_every_text_comes_once_an_epoch_within_the_budget(
    lengths: list[int], max_tokens: int, seed: int, epoch: int
) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "WINDOW", 2)  # many windows of few texts
        batches, again = (token_batches(sizes, max_tokens, seed, epoch) for _ in range(2))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(
        len(batch) > 0 and len(batch) * sizes[batch].max() <= max_tokens for batch in batches
    )
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]


def realistic_lengths(count: int) -> np.ndarray:
    # a median of 25 tokens, 5 % over 66
    lengths = np.exp(np.random.default_rng(0).normal(3.2, 0.6, count))
    return np.clip(lengths, 2, 128).astype(np.int64)


@pytest.mark.parametrize(("count", "max_tokens"), [(2_000, 1024), (50_000, 4096), (50_000, 32_768)])
def test_padding_and_unused_budget_stay_small(count: int, max_tokens: int) -> None:
    lengths = realistic_lengths(count)
    batches = token_batches(lengths, max_tokens, seed=0, epoch=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert 1 - lengths.sum() / padded < 0.08  # measured: 3 to 6 %
    assert padded > 0.93 * max_tokens * (len(batches) - 1)  # every batch but the last is about full


def test_the_budget_holds_where_a_window_of_long_texts_meets_one_of_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(corpus_module, "WINDOW", 2)
    lengths = np.random.default_rng(0).integers(1, 41, 5000)
    for batch in token_batches(lengths, 100, seed=0, epoch=0):
        assert len(batch) * lengths[batch].max() <= 100


def test_epochs_and_seeds_shuffle_texts_and_batches() -> None:
    lengths = realistic_lengths(20_000)
    first, second, other = (token_batches(lengths, 1024, *key) for key in [(0, 0), (0, 1), (1, 0)])
    partners = [
        {frozenset(batch.tolist()) for batch in batches} for batches in (first, second, other)
    ]
    assert not partners[0] & partners[1]
    assert not partners[0] & partners[2]
    means = np.array([lengths[batch].mean() for batch in first])
    correlation = np.corrcoef(means[1:], means[:-1])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(len(means))  # neighbours in time are unrelated in length


def test_a_text_over_the_token_budget_is_refused() -> None:
    with pytest.raises(InputError, match=r"a text has 70 tokens; got max_tokens=64; raise it"):
        token_batches(np.array([3, 70]), 64, 0, 0)


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.5), (10, 0.0), (10, 1.0)])
def test_a_split_with_an_empty_side_is_refused(count: int, fraction: float) -> None:
    with pytest.raises(InputError, match=rf"got fraction={fraction} of {count}"):
        split(count, fraction, 0)


def test_the_state_is_plain_json_without_paths(tmp_path: Path) -> None:
    Corpus.build(TEXTS, BYTES, tmp_path, max_length=50)
    state = json.loads((tmp_path / "corpus.json").read_text())
    assert set(state) == {"totals", "recipe", "dtype", "pad"}
    assert str(tmp_path) not in json.dumps(state)
