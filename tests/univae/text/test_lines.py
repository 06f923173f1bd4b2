"""Files of one text per line: line ends, what is removed, and errors that name the position."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from univae.errors import InputError
from univae.text import lines as lines_module
from univae.text.lines import Removed, numbered_lines, read_lines


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
        (None, r": no such file; give a UTF-8 file"),
        (b"", r"is empty; give a UTF-8 file"),
        (b"\n \r\n\n", r"has no line with a text; give a UTF-8 file"),
        (b"good\nb\xe4d\n", r"line 2, byte 6: not UTF-8 \(invalid continuation byte\); convert"),
        (b"good\ngood\nbad\0\n", r"line 3, byte 13: a NUL byte, so this is no text; convert"),
        (
            b"good\n" + b"x" * 101,
            r"line 2: a line may have at most 100 bytes; this one is longer; give one text per line",
        ),
    ],
)
def test_an_unreadable_file_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 100)
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
        "file.txt: left out 4 blank lines, "
        "the carriage return at the end of 2 lines, a byte order mark"
    ]
    path.write_bytes(b"one\ntwo")
    assert list(read_lines(path, plain := Removed())) == ["one", "two"]
    assert plain.notes("file.txt") == []
