"""Files that would fill the memory are refused before they do, and pipes and devices with a reason."""

import bz2
import gzip
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from experiments.data import (
    image_decoding,
    image_headers,
    memory_bounds,
    numpy_files,
    standard_streams,
)
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ImageReading
from experiments.data.image_resizing import RESIZES, Resize
from experiments.data.memory_bounds import most_unpacked
from experiments.data.pairs import read_groups
from experiments.data.readers import read
from experiments.data.standard_streams import source_file
from experiments.data.texts import read_texts
from experiments.text.data_options import TextData
from experiments.text.sources import sources_of
from univae.errors import InputError
from univae.text import lines

ZEROS = bytes(200_000)
IDX = b"\0\0\x08\x03"


@pytest.fixture(autouse=True)
def _small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_bounds, "IN_MEMORY", 10_000)


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def npy_header(shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


def test_the_bound_is_a_hundred_times_the_file_and_256_mib_at_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    assert most_unpacked(1) == 256 * 2**20
    assert most_unpacked(2**24) == 100 * 2**24


def test_a_zip_of_images_that_unpacks_to_far_more_is_refused_unread(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", ZEROS)
    with pytest.raises(InputError, match=r"0\.png unpacks to .*; unpack it"):
        read(tmp_path / "bomb.zip")


def test_a_compressed_tar_of_images_is_bounded(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("0.png")
        info.size = len(ZEROS)
        archive.addfile(info, io.BytesIO(ZEROS))
    with pytest.raises(InputError, match="unpacks to"):
        read(tmp_path / "bomb.tar.gz")


def test_a_sparse_array_of_an_npz_is_read_and_one_of_over_half_the_memory_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.eye(1000, dtype=np.uint8))
    size = 1000 * 1000 + 128  # with the header
    assert size > 100 * (tmp_path / "x.npz").stat().st_size
    monkeypatch.setattr(memory_bounds, "memory", lambda: 2 * size)
    assert read(tmp_path / "x.npz").values.sum() == 1000
    monkeypatch.setattr(memory_bounds, "memory", lambda: 2 * size - 2)
    with pytest.raises(InputError, match=r"array 'x' takes 1 MiB .*save it with numpy\.save"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("shape", [(50_000_000, 28, 28), (10, 10), (2**62, 2)])
def test_the_shape_in_an_npz_must_agree_with_its_size(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", npy_header(shape) + bytes(7))
    with pytest.raises(InputError, match=r"should hold \d+ bytes of .*; got 7"):
        read(tmp_path / "x.npz")


def test_a_gzipped_idx_takes_no_more_than_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(IDX + struct.pack(">III", 2, 4, 4) + ZEROS))
    with pytest.raises(InputError, match=r"should hold 32 bytes of \(2, 4, 4\); got more"):
        read(path)
    path.write_bytes(gzip.compress(IDX + struct.pack(">III", 2**31, 2**31, 2**31) + ZEROS))
    with pytest.raises(InputError, match="unpacks to"):
        read(path)


def test_an_idx_whose_header_lies_takes_no_more_than_its_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(IDX + struct.pack(">III", 2**31, 2**31, 2**31) + ZEROS)
    with pytest.raises(InputError, match="got 200000; copy it again"):
        read(tmp_path / "x")


def test_a_compressed_json_file_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "x.json.bz2").write_bytes(bz2.compress(b'["' + b"a" * 10**6 + b'"]'))
    with pytest.raises(InputError, match="unpacks to"):
        read_texts(str(tmp_path / "x.json.bz2"))


@pytest.mark.parametrize("skip_damaged", [True, False])
def test_an_image_of_too_many_pixels_is_refused_by_its_header_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, skip_damaged: bool
) -> None:
    monkeypatch.setattr(image_headers, "MOST_PIXELS", 100)
    (tmp_path / "large.png").write_bytes(png(Image.new("L", (11, 10))))
    (tmp_path / "small.png").write_bytes(png(Image.new("L", (10, 10))))
    images = ImageFiles(ImageReading(skip_damaged=skip_damaged))
    if skip_damaged:
        assert len(images.read(tmp_path)) == 1
        return
    with pytest.raises(InputError, match="may have at most 100 pixels; got 11 x 10; make it"):
        images.read(tmp_path)


def test_a_large_photograph_is_read_without_a_warning_and_decoded_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2 * int(Image.MAX_IMAGE_PIXELS or 0) == image_headers.MOST_PIXELS
    Image.linear_gradient("L").resize((640, 480)).save(tmp_path / "a.jpg", quality=95)
    plain = ImageFiles(ImageReading(size=32)).read(tmp_path).values
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 640 * 480 // 2 + 1)  # where Pillow warns
    monkeypatch.setattr(image_decoding, "REDUCED_FROM", 640 * 480 - 1)
    sizes = []
    fit = RESIZES["crop"].apply

    def sized(image: Image.Image, *options: object) -> Image.Image:
        sizes.append(image.size)
        return fit(image, *options)

    monkeypatch.setitem(RESIZES, "crop", Resize("", sized))
    small = ImageFiles(ImageReading(size=32)).read(tmp_path).values
    assert sizes == [(160, 120)]
    assert np.abs(small.astype(int) - plain).max() <= 3


def test_a_text_beyond_the_bound_is_refused_and_one_at_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_TEXT", 10)
    (tmp_path / "x.txt").write_text("0123456789\n")
    assert read_texts(str(tmp_path / "x.txt")).texts == ["0123456789"]
    (tmp_path / "x.txt").write_text("a\n\n0123456789a\n")
    with pytest.raises(
        InputError, match=r"x\.txt, line 3: a text may have at most 10 char.*has 11"
    ):
        read_texts([str(tmp_path / "x.txt")])
    with pytest.raises(InputError, match="text 2: a text may have at most 10 characters"):
        read_texts(str(tmp_path))
    (source,) = sources_of(TextData(text=str(tmp_path / "x.txt")), tmp_path)
    assert list(source.texts.read()) == ["a", "0123456789a"]
    (tmp_path / "x.tsv").write_text("a\t0123456789a\n")
    with pytest.raises(InputError, match="line 1: a text may have at most 10"):
        read_groups(tmp_path / "x.tsv")


def test_standard_input_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_streams, "MOST", 1000)
    stream = SimpleNamespace(buffer=io.BytesIO(ZEROS), isatty=lambda: False)
    monkeypatch.setattr("sys.stdin", stream)
    with pytest.raises(InputError, match="standard input may hold"), source_file("-"):
        pass


def test_an_npy_is_copied_up_to_the_bound_and_mapped_with_a_note_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_files, "IN_MEMORY", 100)
    np.save(tmp_path / "small.npy", np.ones((10, 10), np.uint8))
    np.save(tmp_path / "large.npy", np.ones((10, 11), np.uint8))
    small, large = read(tmp_path / "small.npy"), read(tmp_path / "large.npy")
    assert not isinstance(small.original, np.memmap)
    assert isinstance(large.original, np.memmap)
    assert not small.notes
    assert large.notes == (
        "large.npy is mapped, not copied: leave the file unchanged while it is in use",
    )
    (tmp_path / "small.npy").write_bytes(b"")  # ends a process that has the file mapped
    assert small.values.sum() == 100


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.zip"])
def test_a_pipe_that_would_be_read_twice_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is a pipe, which can be read only once; write the data"):
        read(tmp_path / name)


def test_a_device_is_refused() -> None:
    with pytest.raises(InputError, match="is a device, not a file"):
        read("/dev/zero")


def test_a_pipe_of_idx_is_announced_and_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if os.fork() == 0:
        path.write_bytes(IDX + struct.pack(">III", 2, 1, 3) + bytes(range(6)))
        os._exit(0)
    assert read(path).values.reshape(-1).tolist() == list(range(6))
    os.wait()
    assert "is a pipe: reading until its writer closes it" in capsys.readouterr().err


def test_links_that_lead_nowhere_or_in_circles_are_left_out_with_a_note(tmp_path: Path) -> None:
    for row in range(3):
        (tmp_path / f"{row}.png").write_bytes(png(Image.new("L", (2, 2), row)))
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "up").symlink_to("..")
    data = read(tmp_path)
    assert len(data) == 3
    assert any("broken links or devices left out: 2" in note for note in data.notes)
    assert any("linked folders left out: 1" in note for note in data.notes)
