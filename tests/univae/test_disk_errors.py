"""Errors of the disk name the user's path and say what happened, whoever raised them."""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from univae.atomic_files import replacing_file, replacing_folder, write_text_atomic
from univae.checkpoint import save_state, save_weights
from univae.disk_errors import DISK_ERRORS, naming, reserve
from univae.errors import InputError

LARGEST_FILE = 2**13  # bytes


@pytest.fixture
def _small_files() -> Iterator[None]:
    """Let no file grow beyond :data:`LARGEST_FILE`, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def weights(path: Path) -> None:
    save_weights(nn.Linear(99, 99), path)


def state(path: Path) -> None:
    save_state({"a": torch.zeros(9999)}, path)


def array(path: Path) -> None:
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.zeros(9999))


def text(path: Path) -> None:
    write_text_atomic(path, "x" * 9999)


def mapped(path: Path) -> None:
    with replacing_file(path) as temporary:
        temporary.touch()
        reserve(temporary, 9999)


def folder(path: Path) -> None:
    with replacing_folder(path) as new:
        weights(new / "model.safetensors")


WRITERS = [weights, state, array, text, mapped, folder]


@pytest.mark.usefixtures("_small_files")
@pytest.mark.parametrize("write", WRITERS)
def test_every_writer_names_the_path_and_leaves_what_was_there(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "result"
    path.write_text("before")
    with pytest.raises(OSError, match="File too large") as error:
        write(path)
    assert error.value.errno == errno.EFBIG
    assert error.value.filename == str(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_that_is_gone_is_said_and_not_made_again(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "gone" / "result"
    with pytest.raises(FileNotFoundError) as error:
        write(path)
    assert error.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_removed_while_it_is_written_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "run" / "last"
    path.parent.mkdir()

    def write() -> None:
        with replacing_folder(path) as new:
            shutil.rmtree(tmp_path / "run")
            save_state({"a": 1}, new / "optimizer.pt")

    with pytest.raises(FileNotFoundError) as error:
        write()
    assert error.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_files_and_bugs_stay_as_they_are(tmp_path: Path) -> None:
    def read_another() -> None:
        with replacing_file(tmp_path / "a"):
            (tmp_path / "missing").read_text()

    with pytest.raises(FileNotFoundError, match="missing"):
        read_another()
    for error in (InputError("wrong"), ZeroDivisionError(), OSError(errno.EBADF, "a bug")):

        def fail(error: Exception = error) -> None:
            with replacing_file(tmp_path / "a"):
                raise error

        with pytest.raises(type(error)) as raised:
            fail()
        assert raised.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", sorted(DISK_ERRORS))
def test_an_error_without_a_path_gets_one(number: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as error, naming(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert (error.value.errno, error.value.filename) == (number, str(tmp_path / "a"))
