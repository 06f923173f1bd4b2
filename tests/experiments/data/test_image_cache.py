"""Decoded images in a file: the same data set, decoded once, and written again when out of date."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from experiments.data import image_cache, image_stack
from experiments.data.image_cache import ImageCache, cache_of_run
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ImageReading
from experiments.data.readers import read
from tests.experiments.data.test_image_files import grey, saved
from univae.errors import InputError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, image in enumerate(grey(6, 8, 8)):
        saved(tmp_path / "set" / ("cat", "dog")[number % 2] / f"{number}.png", image)
    return tmp_path / "set"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are decoded."""
    names: list[str] = []
    decode = image_stack.decode

    def counted(content: bytes, source: str, *rest: object) -> object:
        names.append(source)
        return decode(content, source, *rest)

    monkeypatch.setattr(image_stack, "decode", counted)
    return names


def is_mapped(values: np.ndarray) -> bool:
    base: object = values
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap)


def reader(folder: Path, **options: object) -> ImageFiles:
    return ImageFiles(ImageReading(**options), ImageCache(folder))


def test_a_cached_set_is_the_same_set_mapped_and_decoded_once(
    images: Path, tmp_path: Path, decoded: list[str]
) -> None:
    plain = read(images)
    assert not is_mapped(plain.values)
    decoded.clear()
    for _ in range(2):
        data = read(images, reader(tmp_path / "cache"))
        assert is_mapped(data.values)
        assert np.array_equal(data.values, plain.values)
        assert data.labels is not None
        assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
        for field in ("levels", "name", "kind", "notes", "one_bit", "class_names"):
            assert getattr(data, field) == getattr(plain, field)
    assert len(decoded) == 6


def _touch(images: Path) -> None:
    os.utime(images / "cat" / "0.png", ns=(1, 1))


def _change(images: Path) -> None:
    saved(images / "cat" / "0.png", 255 - grey(8, 8))


def _remove(images: Path) -> None:
    (images / "cat" / "0.png").unlink()


@pytest.mark.parametrize("change", [_touch, _change, _remove])
def test_a_cache_is_written_again_when_a_file_has_changed(
    images: Path, tmp_path: Path, decoded: list[str], change: object
) -> None:
    read(images, reader(tmp_path / "cache"))
    decoded.clear()
    change(images)
    data = read(images, reader(tmp_path / "cache"))
    assert len(decoded) == len(data)
    assert np.array_equal(data.values, read(images).values)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the entry and the lock


def test_every_reading_has_an_entry_of_its_own(
    images: Path, tmp_path: Path, decoded: list[str]
) -> None:
    whole = read(images, reader(tmp_path / "cache"))
    small = read(images, reader(tmp_path / "cache", size=4))
    assert (whole.shape, small.shape) == ((1, 8, 8), (1, 4, 4))
    decoded.clear()
    assert read(images, reader(tmp_path / "cache")).shape == (1, 8, 8)
    assert read(images, reader(tmp_path / "cache", size=4)).shape == (1, 4, 4)
    assert decoded == []


@pytest.mark.parametrize("content", [b"", b"{}", b"{", b'{"key": 1}'])
@pytest.mark.parametrize("name", ["record.json", "images.npy"])
def test_a_damaged_cache_is_written_again(
    images: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    read(images, reader(tmp_path / "cache"))
    (entry,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    (entry / name).write_bytes(content)
    data = read(images, reader(tmp_path / "cache"))
    assert np.array_equal(data.values, read(images).values)
    assert (entry / name).read_bytes() != content


def test_an_image_that_cannot_be_decoded_leaves_no_entry_or_is_left_out_of_it(
    images: Path, tmp_path: Path
) -> None:
    saved(images / "cat" / "0.png", grey(64, 64))
    content = (images / "cat" / "0.png").read_bytes()
    (images / "cat" / "0.png").write_bytes(content[:-2000])
    with pytest.raises(InputError, match=r"0.png cannot be read as an image"):
        read(images, reader(tmp_path / "cache", size=8))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]
    data = read(images, reader(tmp_path / "cache", size=8, skip_damaged=True))
    assert is_mapped(data.values)
    assert len(data) == 5
    again = read(images, reader(tmp_path / "cache", size=8, skip_damaged=True))
    assert np.array_equal(again.values, data.values)


def test_only_large_sets_are_cached_in_a_run_and_every_set_where_a_folder_is_named(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert not is_mapped(read(images, ImageFiles.for_run(ImageReading(), run)).values)
    assert not run.exists()
    monkeypatch.setattr(image_cache, "LARGE", 6 * 64)
    assert is_mapped(read(images, ImageFiles.for_run(ImageReading(), run)).values)
    assert (run / "inputs").is_dir()
    named = ImageReading(cache=str(tmp_path / "named"))
    assert cache_of_run(named, run).folder == tmp_path / "named"
    monkeypatch.setattr(image_cache, "LARGE", 2**40)
    assert is_mapped(read(images, ImageFiles.for_run(named, run)).values)


def test_a_full_disk_is_refused_before_an_image_is_decoded(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    monkeypatch.setattr(image_cache, "MARGIN", 2**62)
    with pytest.raises(InputError, match=r"are free; give another folder with --cache"):
        read(images, reader(tmp_path / "cache"))
    assert decoded == []


def test_a_large_set_is_decoded_without_being_held_in_memory(tmp_path: Path) -> None:
    for number in range(40):
        saved(tmp_path / "set" / f"{number}.png", np.full((200, 200, 3), number, np.uint8))
    tracemalloc.start()
    data = read(tmp_path / "set", reader(tmp_path / "cache"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [int(image[0, 0, 0]) for image in data.values] == sorted(range(40), key=str)
    assert peak < 0.3 * data.values.nbytes  # a few images, one or two a thread


def test_a_cache_that_cannot_be_created_is_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"give another folder with --cache"):
        read(images, reader(tmp_path / "file" / "cache"))
