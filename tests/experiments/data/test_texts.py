"""One reader of texts: lines with notes of what was left out, or the whole file as it is."""

from pathlib import Path

import pytest

from experiments.data.python_docs import sentences
from experiments.data.texts import BUILT_IN, exact_text, read_texts, texts_of
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


def test_the_built_in_corpus_is_read_both_ways() -> None:
    lines = sentences()
    assert read_texts(BUILT_IN, 3) == (lines[:3], [])
    assert exact_text(BUILT_IN) == "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.txt is no file; give a UTF-8 file of texts, or python-docs"),
        (b"", r"a\.txt is empty; give a file with texts"),
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
