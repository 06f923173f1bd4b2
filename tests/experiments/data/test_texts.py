"""One reader of texts: lines and columns with notes of what was left out, or a whole file."""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.data.python_docs import sentences
from experiments.data.text_sources import TEXT_SOURCES
from experiments.data.texts import (
    BUILT_IN,
    TextFiles,
    absolute_sources,
    exact_text,
    read_texts,
    texts_of,
)
from univae.errors import InputError

CONTENT = b"\xef\xbb\xbfone\r\n\n two \nthree"


def test_lines_come_with_a_note_of_what_was_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(CONTENT)
    texts, notes = read_texts(str(path))
    assert texts == ["one", " two ", "three"]
    assert notes == [
        f"{path}: left out 1 blank line, the carriage return at the end of 1 line, "
        "a byte order mark"
    ]
    assert list(texts_of(str(path))) == texts
    path.write_text("one\ntwo\n")
    assert read_texts(str(path)) == (["one", "two"], [])


def test_a_limit_takes_the_first_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(CONTENT)
    assert read_texts(str(path), 1).texts == ["one"]
    assert read_texts(str(path), 0).texts == ["one", " two ", "three"]


def test_an_exact_text_keeps_every_character(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(CONTENT)
    assert exact_text(str(path)).encode() == CONTENT
    path.write_bytes(b"")
    assert exact_text(str(path)) == ""


@pytest.mark.slow
def test_the_built_in_corpus_is_read_both_ways() -> None:
    lines = sentences()
    assert read_texts(BUILT_IN, 3) == (lines[:3], [])
    assert exact_text(BUILT_IN) == "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.txt is no file; give a UTF-8 file of texts, or python-docs"),
        (b"ab\xff", r"a\.txt: byte 2 is no UTF-8 text; convert the file"),
    ],
)
def test_what_is_no_text_is_refused_by_name(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        exact_text(str(path))
    with pytest.raises(InputError, match=r"a\.txt"):
        list(texts_of(str(path)))


def test_every_source_of_texts_is_recognised_by_its_own_row(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    table = tmp_path / "a.csv"
    table.write_text("text\na b\n")
    names = {
        "built-in": BUILT_IN,
        "hub": "hub:name:train",
        "remote": "s3://bucket/a.txt",
        "folder": str(tmp_path / "folder"),
        "columns": str(table),
        "lines": str(tmp_path / "a.txt"),
    }
    assert names.keys() == TEXT_SOURCES.keys()
    for name, source in names.items():
        assert next(row for row in TEXT_SOURCES if TEXT_SOURCES[row].recognises(source)) == name
        assert TEXT_SOURCES[name].summary
    assert TEXT_SOURCES["columns"].recognises(f"{table}:text")
    assert not TEXT_SOURCES["columns"].recognises(f"{tmp_path / 'none.csv'}:text")


def test_several_sources_are_read_one_after_the_other(tmp_path: Path) -> None:
    plain = tmp_path / "a.txt"
    plain.write_text("one\n\ntwo\n")
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress(b"three\n\n"))
    folder = tmp_path / "folder"
    (folder / "z").mkdir(parents=True)
    (folder / "z" / "a.txt").write_text("five\r\n")
    (folder / "b.TXT").write_text("four\n")
    (folder / "empty.txt").write_text("")
    (folder / "image.png").write_bytes(b"\x89")
    sources = (str(plain), str(packed), str(folder))
    texts, notes = read_texts(sources)
    assert texts == ["one", "two", "three", "four", "five"]
    assert notes == [
        f"{plain}, {packed}, {folder}: left out 2 blank lines, 1 other file, 1 empty file, "
        "the carriage return at the end of 1 line"
    ]
    assert read_texts(sources, 3).texts == texts[:3]
    assert list(TextFiles(sources).read()) == texts
    (folder / "z" / "a.txt").unlink()
    (folder / "b.TXT").unlink()
    with pytest.raises(InputError, match=r"no text: 1 of its 2 files end in \.txt"):
        read_texts(str(folder))
    with pytest.raises(InputError, match=r"a\.txt has no columns; name a column as FILE:COLUMN"):
        read_texts(str(plain), column="text")


REVIEWS = 'id,review,stars\r\n1,"good, ""really""\nyes",5\r\n2,,4\r\n3,bad one,1\r\n'


def test_a_column_of_texts_is_found_or_named(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"\xef\xbb\xbf" + REVIEWS.encode())
    expected = ['good, "really" yes', "bad one"]
    texts, notes = read_texts(str(path))
    assert texts == expected
    assert [note.removeprefix(f"{path}: ") for note in notes] == [
        "left out 1 row with an empty cell, a byte order mark",
        "1 line end inside texts read as a space",
        "the first line is a header: id, review, stars",
        "texts in column review; left out id, stars",
    ]
    for named in (
        read_texts(str(path), column="review"),
        read_texts(str(path), column="2"),
        read_texts(f"{path}:review"),
    ):
        assert named.texts == expected
        assert [note.replace(":review", "") for note in named.notes] == notes[:3]
    with pytest.raises(InputError, match="names another column; leave one out"):
        read_texts(f"{path}:review", column="id")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("id", r"column id holds whole numbers, all of them different \('1'\), which are no texts"),
        ("nope", r"has no column nope; it has 3 columns: id \(whole numbers"),
        ("0", "has no column 0"),
        ("4", "has no column 4"),
    ],
)
def test_a_column_without_texts_is_refused_by_name(
    column: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text(REVIEWS)
    with pytest.raises(InputError, match=message):
        read_texts(str(path), column=column)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.tsv",
            "good day\tgood night\nthe sun\tthe moon\n",
            r"2 columns may .*: a\.tsv:1, or --column 1 in",
        ),
        ("a.csv", "1,2.5\n3,4.5\n", r"no column may hold the texts; .* 2 \(numbers, '2\.5'\)"),
        (
            "a.csv",
            'a,"b\n',
            r"a\.csv, line 1: no CSV \(unexpected end of data\); close every quote",
        ),
        ("a.csv", "id,text\n", "has a header, id, text, and no row below it"),
        ("a.csv", "id,text\n1,a,b\n", "line 2: 3 cells, and the header names 2; put quotes"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "line 2: a list, where other lines are objects"),
        ("a.jsonl", '{"text": "a"}\n{"text": {}}\n', "line 2: column text holds {}, which is no"),
        ("a.jsonl", '{"text": ""}\n{"text": null}\n', "no column may hold the texts"),
    ],
)
def test_a_file_of_columns_that_cannot_be_read_says_where(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as refused:
        read_texts(str(tmp_path / name))
    assert "\n" not in str(refused.value)


def test_lines_of_json_are_texts_or_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"a b"\n"c\\nd"\n')
    assert read_texts(str(path)).texts == ["a b", "c d"]
    path.write_text('{"n": 1, "text": "a b"}\n{"n": 2}\n{"text": "c", "extra": 1}\n')
    assert read_texts(str(path)).texts == ["a b", "c"]


def test_a_json_list_of_texts_has_one_text_in_each_element(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text(json.dumps(["a b", " ", "c\nd"], indent=indent))
        texts, notes = read_texts(str(path))
        assert texts == ["a b", "c d"]
        assert notes[0] == f"{path}: left out 1 row with an empty cell"
    with pytest.raises(InputError, match=r"--column b: .* is one list of texts, without columns"):
        read_texts(str(path), column="b")


def test_a_message_lists_eight_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"text{i}" for i in range(80)) + "\n" + ",".join(["a b"] * 80) + "\n")
    with pytest.raises(InputError, match=r"it has 80 columns: .*, \.\.\.$") as refused:
        read_texts(str(path))
    assert str(refused.value).count("(texts, ") == 8


def test_texts_between_tabs_may_end_in_crlf(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"id\ttext\r\n1\ta b\r\n2\tc d\r\n")
    texts, notes = read_texts(str(path))
    assert texts == ["a b", "c d"]
    assert not any("carriage return" in note for note in notes)


def test_texts_keep_their_white_space_and_a_lone_column_needs_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("just a text\nand another; text\n")
    assert read_texts(str(path)) == (["just a text", "and another; text"], [])
    path.write_text("id;text\n1;a, b\n2;c\n")
    assert read_texts(str(path)).texts == ["a, b", "c"]


# Hub data sets


class StandIn:
    """A module ``datasets`` with one data set of two columns."""

    column_names = ("label", "text")

    def load_dataset(self, name: str, split: str) -> "StandIn":
        if (name, split) != ("mine/reviews", "test"):
            raise ValueError(f"no {name}\nof {split}")
        return self

    def __iter__(self) -> Iterator[dict[str, object]]:
        yield from ({"label": i, "text": text} for i, text in enumerate(["a b", "", "c d"]))


def test_a_hub_data_set_is_name_split_and_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", StandIn())
    texts, notes = read_texts("hub:mine/reviews:test")
    assert texts == ["a b", "c d"]
    assert notes == [
        "hub:mine/reviews:test: left out 1 row with an empty cell",
        "hub:mine/reviews:test: texts in column text; left out label",
    ]
    assert read_texts("hub:mine/reviews:test:text").texts == texts
    with pytest.raises(InputError, match="column label holds whole numbers"):
        read_texts("hub:mine/reviews:test:label")
    with pytest.raises(InputError, match=r"hub:other: cannot be loaded \(no other of train\)"):
        read_texts("hub:other")
    with pytest.raises(InputError, match="give hub:NAME, hub:NAME:SPLIT or"):
        read_texts("hub:a:b:c:d")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the extra hub: pip install 'univae\[hub\]'"):
        read_texts("hub:mine/reviews:test")


def test_a_local_folder_is_read_as_a_hub_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"text": "a b"}\n{"text": "c d"}\n')
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    assert read_texts(f"hub:{tmp_path / 'set'}").texts == ["a b", "c d"]


def test_sources_become_absolute_unless_they_are_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    assert absolute_sources("a.txt") == str(tmp_path / "a.txt")
    assert absolute_sources((BUILT_IN, "hub:x/y:test", "hub:set:test", "a.csv:text")) == (
        BUILT_IN,
        "hub:x/y:test",
        f"hub:{tmp_path / 'set'}:test",
        str(tmp_path / "a.csv:text"),
    )
