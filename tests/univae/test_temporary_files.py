"""What killed writers left is deleted by the next one; files of living ones and of others stay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from univae.atomic_files import recover_folder, replacing_file, write_text_atomic
from univae.temporary_files import (
    HOST,
    is_temporary,
    remove_dead,
    remove_folder,
    temporary_beside,
)


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_name_of_a_temporary_file_says_who_writes_it(tmp_path: Path) -> None:
    path = temporary_beside(tmp_path / "a.txt")
    assert path.name == f".a.txt.{HOST}.{os.getpid()}.new"
    assert is_temporary(path)
    assert is_temporary(tmp_path / ".config.json.4711.new")  # of version 0.1.0
    for name in ("a.new", ".a.new", ".4711.new", "a.4711.new", ".last.old"):
        assert not is_temporary(tmp_path / name)


def test_the_next_writer_of_a_name_deletes_what_dead_ones_left(tmp_path: Path, dead: int) -> None:
    left = tmp_path / f".a.txt.{HOST}.{dead}.new"
    stays = [
        tmp_path / f".a.txt.{HOST}.{os.getppid()}.new",  # its process lives
        tmp_path / f".a.txt.00000000.{dead}.new",  # of another machine
        tmp_path / f".b.txt.{HOST}.{dead}.new",  # of another name
        tmp_path / f".a.txt.{dead}.new",  # may be the user's
        tmp_path / "mine.new",
    ]
    for path in (left, *stays):
        path.write_text("half")
    write_text_atomic(tmp_path / "a.txt", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", *(p.name for p in stays)}
    with replacing_file(tmp_path / "a.txt") as mine:
        mine.write_text("whole")
        write_text_atomic(tmp_path / "b.txt", "whole")
        assert mine.exists()


def test_files_and_folders_of_dead_processes_are_deleted(tmp_path: Path, dead: int) -> None:
    (tmp_path / f".a.{HOST}.{dead}.new").mkdir()
    (tmp_path / f".a.{HOST}.{dead}.new" / "half").touch()
    (tmp_path / f".config.json.{dead}.new").touch()
    (tmp_path / f".b.{HOST}.{os.getpid()}.new").touch()
    remove_dead(list(tmp_path.iterdir()))
    assert [path.name for path in tmp_path.iterdir()] == [f".b.{HOST}.{os.getpid()}.new"]


def test_in_a_locked_folder_those_of_other_machines_and_of_the_own_number_are_dead(
    tmp_path: Path,
) -> None:
    living = f".a.{HOST}.{os.getppid()}.new"
    for name in (f".a.00000000.{os.getppid()}.new", f".b.{HOST}.{os.getpid()}.new", living):
        (tmp_path / name).touch()
    remove_dead(list(tmp_path.iterdir()))
    assert len(list(tmp_path.iterdir())) == 3
    remove_dead(list(tmp_path.iterdir()), is_locked=True)
    assert [path.name for path in tmp_path.iterdir()] == [living]


def test_a_folder_is_removed_under_a_name_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "file").touch()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # as if it was killed
        remove_folder(folder)
    assert [path.name for path in tmp_path.iterdir()] == [temporary_beside(folder).name]
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_between_its_renames_is_recovered(tmp_path: Path) -> None:
    for name in (".last.old", ".last.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    recover_folder(tmp_path / "last")
    assert (tmp_path / "last" / "weights").read_text() == ".last.old"
    (tmp_path / ".last.old").mkdir()
    recover_folder(tmp_path / "last")
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
