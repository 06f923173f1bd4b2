"""Files of object stores are read as the same files on this machine are."""

import gzip
import json
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import fsspec
import numpy as np
import pytest

from experiments.data.image_files import ImageFiles
from experiments.data.pair_files import read_rows
from experiments.data.readers import read, read_training_set
from experiments.data.remote import is_remote, local_path, url_of
from experiments.data.sources import resolved
from experiments.data.texts import TextFiles, absolute_sources, read_texts
from experiments.text.data_options import TextData
from experiments.text.sources import sources_of
from univae.errors import InputError
from univae.text.lines import Removed

TEXTS = ["a small cat", "naïve café", "世界"]
LINES = "".join(f"{text}\n" for text in TEXTS).encode()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def test_a_path_that_lost_a_slash_is_still_a_url() -> None:
    for url in ("s3://bucket/a.txt", "memory://a/b.csv", "file:///tmp/a"):
        assert url_of(url) == url_of(Path(url)) == resolved(url) == absolute_sources(url) == url
    assert not any(map(is_remote, ("a.txt", "/tmp/a:b", "hub:/folder:train", "c:/a.txt", "")))


def test_texts_of_a_store_are_those_of_the_file(store: fsspec.AbstractFileSystem) -> None:
    store.pipe("/a.txt", LINES + b"\n")
    store.pipe("/a.txt.gz", gzip.compress(LINES))
    store.pipe("/a.csv", b"text,label\na small cat,1\nna\xc3\xafve,2\n")
    texts, notes = read_texts("memory://a.txt")
    assert (texts, notes) == (TEXTS, ["memory://a.txt: left out 1 blank line"])
    assert read_texts("memory://a.txt.gz").texts == TEXTS
    assert read_texts("memory://a.csv:text").texts == ["a small cat", "naïve"]
    assert read_texts("memory://a.csv", column="1").texts == ["a small cat", "naïve"]
    # an option of type Path
    assert read_texts(Path("memory://a.txt")).texts == TEXTS


def test_several_files_of_a_store_are_read_in_the_order_of_their_names(
    store: fsspec.AbstractFileSystem,
) -> None:
    for name in ("b", "a", "c"):
        store.pipe(f"/shards/{name}.txt", f"text {name}\n".encode())
    assert read_texts("memory://shards/*.txt").texts == ["text a", "text b", "text c"]
    with pytest.raises(InputError, match=r"^memory://shards/\*\.csv: no file matches"):
        read_texts("memory://shards/*.csv")


def test_the_fingerprint_of_remote_texts_is_that_of_local_ones(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    store.pipe("/a.txt", LINES)
    (tmp_path / "a.txt").write_bytes(LINES)
    prints = []
    for text in ("memory://a.txt", str(tmp_path / "a.txt")):
        prints.append(sources_of(TextData(text=text).absolute(), tmp_path)[0].fingerprint())
    assert prints[0]["fingerprint"] == prints[1]["fingerprint"]
    assert prints[0]["source"] == "memory://a.txt"


def test_arrays_and_pairs_of_a_store_are_those_of_the_file(
    store: fsspec.AbstractFileSystem,
) -> None:
    array = np.arange(24.0).reshape(6, 4) / 7
    content = BytesIO()
    np.save(content, array)
    store.pipe("/x.npy", content.getvalue())
    np.testing.assert_array_equal(read("memory://x.npy").values, array)
    assert read_training_set("memory://x.npy", ImageFiles()).shape == (4,)
    store.pipe("/pairs.jsonl", json.dumps(["a", "b"]).encode())
    rows = read_rows(Path("memory://pairs.jsonl"), Removed())
    assert [row.cells for row in rows] == [["a", "b"]]


def test_a_copy_is_made_once_and_again_when_the_file_changes(
    store: fsspec.AbstractFileSystem,
) -> None:
    store.pipe("/a.txt", b"first")
    copy = local_path("memory://a.txt")
    written = copy.stat().st_mtime_ns
    assert local_path(Path("memory://a.txt")) == copy
    assert (copy.read_bytes(), copy.stat().st_mtime_ns) == (b"first", written)
    store.pipe("/a.txt", b"second, and longer")
    assert local_path("memory://a.txt").read_bytes() == b"second, and longer"


def test_a_changed_file_of_the_same_size_is_copied_anew_in_place_of_the_first(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    store.pipe("/a.txt", b"first")
    copy = local_path("memory://a.txt")
    store.pipe("/a.txt", b"other")
    assert local_path("memory://a.txt") == copy
    assert copy.read_bytes() == b"other"
    copies = tmp_path / "cache" / "univae" / "remote"
    assert sorted(path.suffix for path in copies.iterdir()) == ["", ".state"]
    assert {path.stat().st_mode & 0o777 for path in (copies, copy.parent)} == {0o700}


def test_a_file_of_a_store_that_tells_no_version_is_copied_each_time(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"name": "/a.txt", "size": 5, "type": "file"}
    monkeypatch.setattr(type(store), "info", lambda *_, **__: info)
    for content in (b"first", b"other"):
        store.pipe("/a.txt", content)
        assert local_path("memory://a.txt").read_bytes() == content


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.npy"])
def test_a_connection_that_breaks_while_reading_is_one_line(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError("connection reset")

    store.pipe(f"/{name}", LINES)
    monkeypatch.setattr(type(store), "open", lambda *_, **__: Broken())
    reader = read if name == "a.npy" else read_texts
    with pytest.raises(InputError, match=rf"^memory://{name}: .*\(connection reset\); check"):
        reader(f"memory://{name}")


def test_messages_name_the_url_and_not_the_copy(store: fsspec.AbstractFileSystem) -> None:
    store.pipe("/a.npy", b"junk")
    with pytest.raises(InputError, match=r"^memory://a\.npy cannot be read"):
        read("memory://a.npy")
    store.pipe("/a.csv", b"text\n\xff\n")
    for reader in (read_texts, lambda url: list(read_rows(Path(url), Removed()))):
        with pytest.raises(InputError, match=r"^memory://a\.csv"):
            reader("memory://a.csv")
    store.pipe("/folder/a.npy", b"junk")
    with pytest.raises(InputError, match=r"^memory://folder: a folder of a store; give a file"):
        read("memory://folder")


def test_two_columns_are_refused_as_for_a_local_file(store: fsspec.AbstractFileSystem) -> None:
    store.pipe("/a.csv", b"text,label\na small cat,1\n")
    with pytest.raises(InputError, match=r"--column 2: memory://a.csv:text names another column"):
        read_texts("memory://a.csv:text", column="2")


def test_images_of_a_store_come_without_labels_and_a_note(
    store: fsspec.AbstractFileSystem,
) -> None:
    store.pipe("/images-idx3", b"\0\0\x08\x03" + bytes([0, 0, 0, 1] * 3) + b"\1")
    (note,) = (note for note in read("memory://images-idx3").notes if "labels" in note)
    assert note.startswith("images-idx3: labels beside a file of an object store are not read")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("memory://missing.txt", "^memory://missing.txt: no such file; check the address$"),
        ("nowhere://a.txt", "^nowhere://a.txt: cannot be opened .*; check address and access$"),
    ],
)
def test_a_file_that_cannot_be_opened_is_refused_in_one_line(source: str, message: str) -> None:
    for reader in (lambda: read_texts(source), lambda: read(source)):
        with pytest.raises(InputError, match=message):
            reader()


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"needs the extra remote: pip install 'univae\[remote\]'"):
        list(TextFiles("s3://bucket/a.txt").read())
