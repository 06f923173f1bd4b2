"""A folder comes back with its names, contents, permissions and times, and nothing outside of it."""

import os
import stat
from pathlib import Path

import pytest

from experiments.data.trees import Member, read_tree, write_tree
from univae.errors import InputError


def test_a_folder_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "b" / "c").mkdir(parents=True)
    (folder / "empty").mkdir(mode=0o700)
    (folder / "b" / "c" / "x.bin").write_bytes(b"\0\xff")
    (folder / ".hidden").write_bytes(b"")
    (folder / "b" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "b" / "run.sh").chmod(0o750)
    os.utime(folder / ".hidden", (5, 5))
    os.utime(folder / "b", (7, 7))
    tree = read_tree(folder)
    out = tmp_path / "out"
    out.mkdir()
    write_tree(tree.members, out)
    assert read_tree(out) == tree
    assert (out / "b" / "run.sh").stat().st_mode & 0o777 == 0o750
    assert [int((out / name).stat().st_mtime) for name in (".hidden", "b")] == [5, 7]
    assert tree.size == 2 + 10


def test_a_name_that_is_no_unicode_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/a\xff")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    out = tmp_path / "out"
    out.mkdir()
    write_tree(read_tree(folder).members, out)
    assert os.listdir(os.fsencode(out)) == [b"a\xff"]


def test_a_read_only_folder_comes_back_with_its_files(tmp_path: Path) -> None:
    members = [Member("a", 0o500, 3, None), Member("a/b", 0o400, 4, b"x")]
    write_tree(members, tmp_path)
    assert (tmp_path / "a" / "b").read_bytes() == b"x"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o500
    (tmp_path / "a").chmod(0o700)


def test_links_and_pipes_are_left_out_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("key")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    tree = read_tree(folder)
    assert tree.members == ()
    assert tree.notes == (
        "folder: links left out: 2 (broken, link)",
        "folder: pipes, sockets or devices left out: 1 (pipe)",
    )


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "", ".", "a//b", "a/./b", "a\0b", "..", "a/"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="leads out of the new folder"):
        write_tree([Member("good", 0o644, 0, b""), Member(name, 0o644, 0, b"")], out)
    assert list(out.iterdir()) == []
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b")])
def test_names_that_exclude_each_other_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"have one name|lies below a file"):
        write_tree([Member(name, 0o644, 0, b"") for name in names], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 256, r"a name has 256 bytes \(a{40}\.\.\.\), and a file may have 255"),
        ("folder/" + "\u00e9" * 128, r"a name has 256 bytes"),
        ("a\ud800", r"the name 'a\\ud800' is no text"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        write_tree([Member("good", 0o644, 0, b""), Member(name, 0o644, 0, b"")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_and_special_permission_bits(tmp_path: Path) -> None:
    write_tree([Member("a" * 255, 0o7644, 3, b"x")], tmp_path)
    assert stat.S_IMODE((tmp_path / ("a" * 255)).stat().st_mode) == 0o644
