"""A corpus in shards is the same corpus, written by any number of processes, and continued."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.damage import flip_a_bit
from univae.errors import InputError
from univae.text import corpus_writer as writer_module
from univae.text import fingerprint as fingerprint_module
from univae.text.corpus import Corpus
from univae.text.corpus_files import ShardWriter
from univae.text.tokenizers import Tokenizer, train_tokenizer

TEXTS = [f"text {i} " + "x" * (i % 7) for i in range(100)]
TOKENIZER = train_tokenizer("bytes", [])


class Process(NamedTuple):
    """A process that has nobody to wait for: the others have run before it."""

    rank: int
    size: int

    def wait(self) -> None:
        if self.rank:
            raise EOFError("the first process completes the corpus")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint_module, "BATCH_TEXTS", 4)
    monkeypatch.setattr(writer_module, "SHARD_BYTES", 200)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the texts that are encoded from now on."""
    texts: list[str] = []
    add = ShardWriter.add

    def counted(self: ShardWriter, batch: fingerprint_module.Batch) -> None:
        texts.extend(batch.texts)
        add(self, batch)

    monkeypatch.setattr(ShardWriter, "add", counted)
    return texts


def build(folder: Path, texts: list[str] | Iterator[str] = TEXTS, **options: Process) -> Corpus:
    return Corpus.build(texts, TOKENIZER, folder, max_length=50, **options)


def files_of(corpus: Corpus) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(corpus.folder.iterdir())}


def broken(count: int) -> Iterator[str]:
    yield from TEXTS[:count]
    raise KeyboardInterrupt


def test_shards_hold_what_one_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = build(tmp_path / "shards")
    monkeypatch.setattr(writer_module, "SHARD_BYTES", 2**20)
    whole = build(tmp_path / "whole")
    assert len(shards.shards) == 5
    assert (len(whole.shards), sorted(files_of(whole))) == (
        1,
        ["corpus.json", "ids.bin", "offsets.npy"],
    )
    assert (shards.totals, shards.recipe) == (whole.totals, whole.recipe)
    np.testing.assert_array_equal(shards.lengths, whole.lengths)
    assert [shards[i].tolist() for i in range(-100, 100)] == [
        whole[i].tolist() for i in range(-100, 100)
    ]
    rows = np.random.default_rng(0).permutation(100)[:30]
    np.testing.assert_array_equal(shards.gather(rows), whole.gather(rows))


def test_no_shard_is_larger_than_its_bound_and_one_batch(tmp_path: Path) -> None:
    corpus = build(tmp_path)
    batch = 4 * max(len(text) + 1 for text in TEXTS)
    sizes = [len(shard.ids) for shard in corpus.shards]
    assert all(200 <= size < 200 + batch for size in sizes[:-1])
    assert sum(sizes) == corpus.totals["tokens"]


@pytest.mark.parametrize("count", [2, 3, 9])
def test_several_processes_write_the_files_of_one(tmp_path: Path, count: int) -> None:
    alone = build(tmp_path / "alone")
    for rank in range(1, count):
        with pytest.raises(EOFError):
            build(tmp_path / "shared", processes=Process(rank, count))
    assert files_of(build(tmp_path / "shared", processes=Process(0, count))) == files_of(alone)


@pytest.mark.parametrize("read", [0, 3, 30, 99])
def test_an_interrupted_build_continues_after_its_last_shard(
    tmp_path: Path, read: int, encoded: list[str]
) -> None:
    whole = files_of(build(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "corpus", broken(read))
    finished = len(list((tmp_path / "corpus").glob("shard-*.json")))
    encoded.clear()
    assert files_of(build(tmp_path / "corpus")) == whole
    sizes = [len(shard.offsets) - 1 for shard in Corpus.open(tmp_path / "corpus").shards]
    assert encoded == TEXTS[sum(sizes[:finished]) :]


def test_a_build_of_changed_texts_is_refused_once_and_then_starts_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, broken(60))
    changed = ["other", *TEXTS[1:]]
    with pytest.raises(InputError, match=r"the texts have changed since an interrupted build"):
        build(tmp_path, changed)
    assert [path.suffix for path in tmp_path.iterdir()] == []
    assert TOKENIZER.decode(build(tmp_path, changed)[0]) == "other"


def test_a_process_that_finds_changed_texts_removes_no_shard_of_another(tmp_path: Path) -> None:
    for rank in (1, 0):
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, broken(99), processes=Process(rank, 2))
    for name in ("ids-00005.bin.partial", "offsets-00006.ends.partial"):
        (tmp_path / name).write_bytes(b"1")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"the texts have changed"):
        build(tmp_path, ["other", *TEXTS[1:]], processes=Process(1, 2))
    removed = before - {path.name for path in tmp_path.iterdir()}
    assert "shard-00001.json" in removed
    numbers = {int(name.partition("-")[2].partition(".")[0]) for name in before}
    kept = {int(name.partition("-")[2].partition(".")[0]) for name in before - removed}
    assert kept == {number for number in numbers if number % 2 == 0}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "ids-00001.bin").write_bytes(b"1"),
        lambda folder: np.save(folder / "offsets-00001.npy", np.arange(3)),
        lambda folder: (folder / "offsets-00001.npy").write_bytes(b"1"),
        lambda folder: flip_a_bit(folder / "ids-00001.bin", 0),
        lambda folder: change_totals(folder, None),
        lambda folder: change_totals(folder, {"texts": 1.5}),
        lambda folder: change_totals(folder, {"tokens": 7}),
        lambda folder: change_totals(folder, {"words": "9"}),
    ],
)
def test_a_damaged_shard_is_written_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    whole = files_of(build(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "corpus", broken(99))
    damage(tmp_path / "corpus")
    assert files_of(build(tmp_path / "corpus")) == whole


def change_totals(folder: Path, change: dict[str, object] | None) -> None:
    path = folder / "shard-00001.json"
    state = json.loads(path.read_text())
    totals = None if change is None else {**state["totals"], **change}
    path.write_text(json.dumps({**state, "totals": totals}))


def test_a_text_beyond_the_bound_is_dropped_and_counted_unencoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["x" * 30, *TEXTS]
    plain = build(tmp_path / "plain", texts)
    monkeypatch.setattr("univae.text.lines.LONGEST_TEXT", 29)
    corpus = build(tmp_path / "corpus", texts)
    assert (corpus.totals["dropped"], len(corpus)) == (1, len(plain) - 1)
    assert corpus.recipe == plain.recipe
    assert TOKENIZER.decode(corpus[0]) == TEXTS[0]


def test_shards_of_another_tokenizer_are_written_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, broken(60))
    tokenizer: Tokenizer = train_tokenizer("chars", TEXTS, 300)
    corpus = Corpus.build(TEXTS, tokenizer, tmp_path, max_length=50)
    assert [tokenizer.decode(corpus[i]) for i in range(100)] == TEXTS


def test_a_shard_whose_texts_are_all_too_long_is_empty(tmp_path: Path) -> None:
    texts = ["x" * 60] * 8 + TEXTS
    corpus = build(tmp_path, texts)
    assert (corpus.totals["dropped"], len(corpus.shards[0].ids)) == (8, 0)
    assert [TOKENIZER.decode(corpus[i]) for i in (0, 99)] == [TEXTS[0], TEXTS[99]]


@pytest.mark.parametrize("shards", [0, -1, 4, 6, 10**12, "7", None, 1.5])
def test_a_wrong_number_of_shards_is_refused(tmp_path: Path, shards: object) -> None:
    build(tmp_path)
    state = json.loads((tmp_path / "corpus.json").read_text())
    (tmp_path / "corpus.json").write_text(json.dumps({**state, "shards": shards}))
    with pytest.raises(InputError, match=r"damaged files \(.*\); delete the folder"):
        Corpus.open(tmp_path)
