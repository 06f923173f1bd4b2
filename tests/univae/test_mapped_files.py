"""Releasing a mapped array gives back its memory and keeps its values."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from univae.mapped_files import release_pages

SIZE = 2**25


def mapped_bytes() -> int:
    """Return the resident bytes of this process that are mapped from files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if "RssFile" in line).split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_pages_that_were_read_or_written_are_given_back(tmp_path: Path, mode: str) -> None:
    np.save(tmp_path / "a.npy", np.arange(SIZE, dtype=np.uint8))
    array = np.load(tmp_path / "a.npy", mmap_mode=mode)
    if mode == "r+":
        array[7] = 99
    total = int(array.sum(dtype=np.int64))
    before = mapped_bytes()
    release_pages(np.asarray(array)[3:])  # a view, as of a class that hides the mapping
    assert mapped_bytes() < before - 0.9 * SIZE
    assert array.sum(dtype=np.int64) == total
    assert np.load(tmp_path / "a.npy").sum(dtype=np.int64) == total


def test_changes_that_no_file_holds_are_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(10))
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    memory = np.zeros(10)
    (tmp_path / "a").write_bytes(bytes(80))
    with (tmp_path / "a").open("rb") as file:
        other = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    for array in (private, memory, other, other[1:]):
        array[:] = 0
        array[3] = 1
        release_pages(array)
        assert array.sum() == 1
