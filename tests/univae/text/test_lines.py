"""Files of one text per line: line ends, what is removed, and errors that name the position."""

import bz2
import gzip
import lzma
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
        (b"good\nb\xe4d\n", r"if it is Latin-1: iconv -f LATIN1 -t UTF-8"),
        ("text".encode("utf-16"), r": UTF-16, by its first two bytes; convert .* iconv -f UTF-16"),
        ("text".encode("utf-16-le"), r"line 1, byte 1: a NUL byte.* if it is UTF-16: iconv -f"),
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


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_a_compressed_file_has_the_lines_of_its_content(
    tmp_path: Path, suffix: str, compress
) -> None:
    content = b"\xef\xbb\xbfone\r\n\ntwo\n" * 50
    plain = tmp_path / "file.txt"
    plain.write_bytes(content)
    packed = tmp_path / f"file.txt{suffix}"
    packed.write_bytes(compress(content))
    counts = Removed(), Removed()
    assert list(read_lines(packed, counts[0])) == list(read_lines(plain, counts[1]))
    assert counts[0] == counts[1]

    packed.write_bytes(compress(content)[:-10])
    with pytest.raises(InputError, match=rf"file\.txt{suffix}: cannot be read .*damaged"):
        list(read_lines(packed))
    packed.write_bytes(content)
    with pytest.raises(InputError, match=rf"the file is damaged, or no {suffix} file"):
        list(read_lines(packed))


def test_notes_list_every_count_and_remarks_come_last() -> None:
    removed = Removed(1, 2, True, 3, 4, 5, 6, ["a.csv: a remark"])
    assert removed.notes("a") == [
        "a: left out 1 blank line, 3 rows with an empty cell, 5 other files, 6 empty files, "
        "the carriage return at the end of 2 lines, a byte order mark",
        "a: 4 line ends inside texts read as a space",
        "a.csv: a remark",
    ]
