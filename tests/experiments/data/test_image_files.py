"""Image files: a conversion that loses information is refused, every assumption is a note."""

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from density.trained import TrainedDensity
from experiments import compress, decompress, train_density
from experiments.data.arrays import Data
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ExactReading
from experiments.data.readers import read
from experiments.data.records import fingerprint
from experiments.images.run import fit_to
from univae.errors import InputError


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def grey(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def saved(path: Path, array: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(array: np.ndarray, depth: int, colour: int) -> bytes:
    """A PNG of 16 bits a channel, or of fewer than 8 with the bits of a row in ``array``."""
    height = len(array)
    packed = array.astype(">u2" if depth == 16 else np.uint8)
    width = array.shape[1] if depth == 16 else 8 * array.shape[1] // depth
    rows = b"".join(b"\0" + packed[i].tobytes() for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (3, 2), (2, 4), (4, 6)])
def test_sixteen_bits_a_channel_are_refused_with_colour_and_alpha_too(
    tmp_path: Path, channels: int, colour: int
) -> None:
    array = np.full((2, 2, channels), 65_535, np.uint16)
    array[0, 0, 0] = 1000
    (tmp_path / "a.png").write_bytes(png(array, 16, colour))
    with pytest.raises(InputError, match=r"a.png must be grey or RGB of 8 bits; got 16 bits"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "gif", "webp", "tiff"])
def test_the_first_picture_of_an_animation_is_read_and_noted(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(grey(4, 4)), Image.fromarray(255 - grey(4, 4))]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    data = read(tmp_path)
    assert np.array_equal(data.values[0, 0], grey(4, 4))
    note = "1 of 1 images in files of several pictures, of which the first is read"
    assert f"{tmp_path.name}: {note}" in data.notes
    with pytest.raises(InputError, match=rf"a.{suffix} is an animation of 2 frames; save one"):
        read(tmp_path, ImageFiles(ExactReading()))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_a_turned_photograph_is_set_upright_and_counted(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn by 90 degrees, clockwise
    array = np.zeros((8, 16), np.uint8)
    array[:, :8] = 200
    options = {"lossless": True} if suffix == "webp" else {}
    saved(tmp_path / f"a.{suffix}", array, exif=exif, **options)
    data = read(tmp_path)
    assert data.shape[1:] == (16, 8)
    assert np.abs(data.values[0, 0].astype(int) - np.rot90(array, -1)).max() < 8  # JPEG rounds
    assert f"{tmp_path.name}: 1 of 1 images turned as their EXIF orientation says" in data.notes


def test_palettes_and_pixels_of_few_bits_are_counted(tmp_path: Path) -> None:
    (tmp_path / "palette").mkdir()
    Image.fromarray(grey(4, 4, 3)).convert("P").save(tmp_path / "palette" / "a.png")
    assert read(tmp_path / "palette").notes == (
        "palette: 1 of 1 images of a palette, read as red, green and blue",
    )
    (tmp_path / "few").mkdir()
    # 0 1 2 3 of 2 bits, twice
    (tmp_path / "few" / "a.png").write_bytes(png(np.array([[0x1B, 0x1B]]), 2, 0))
    data = read(tmp_path / "few")
    assert data.values[0, 0, 0, :4].tolist() == [0, 85, 170, 255]
    assert data.notes == ("few: 1 of 1 images of 2 or 4 bits a pixel, spread to 0..255",)


def test_black_and_white_is_two_levels_only_where_every_file_has_one_bit_a_pixel(
    tmp_path: Path,
) -> None:
    bits = np.eye(8, dtype=bool)
    saved(tmp_path / "one" / "a.png", bits)
    saved(tmp_path / "one" / "b.png", ~bits)
    one = read(tmp_path / "one")
    assert (one.levels, one.notes) == (2, ())
    assert np.array_equal(one.values[:, 0], np.stack([bits, ~bits]))
    saved(tmp_path / "mixed" / "a.png", bits)
    saved(tmp_path / "mixed" / "b.png", grey(8, 8))
    mixed = read(tmp_path / "mixed")
    assert mixed.levels == 256
    assert np.array_equal(mixed.values[0, 0], 255 * bits)
    assert mixed.notes == (
        "mixed: 1 of 2 images of 1 bit a pixel, read as the grey levels 0 and 255",
    )
    saved(tmp_path / "bytes" / "a.png", np.where(bits, 255, 0).astype(np.uint8))
    wide = read(tmp_path / "bytes")  # a grey folder that has no grey in it stays one
    assert (wide.levels, int(wide.values.max())) == (256, 255)
    assert wide.notes[0].startswith(
        "bytes: every pixel is 0 or 255, read as 256 grey levels; --binarisation threshold"
    )


def test_hidden_linked_broken_and_empty_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    saved(folder / "cat" / "a.png", grey(4, 4))
    saved(folder / "dog" / "a.png", grey(4, 4))
    saved(tmp_path / "elsewhere" / "a.png", grey(4, 4))
    (folder / ".DS_Store").write_bytes(b"junk")
    (folder / "dog" / "b.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "emu").mkdir()
    (folder / "fox").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    data = read(folder)
    assert len(data) == 2
    assert set(data.notes) == {
        "set: hidden files left out: 1 (.DS_Store)",
        "set: broken links or devices left out: 1 (dog/b.png)",
        "set: empty folders left out: 1 (emu)",
        "set: linked folders left out: 1 (fox)",
        "set: labels are the 2 subfolders: 0 cat, 1 dog",
    }


def test_hidden_files_of_a_zip_are_counted(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", grey(4, 4))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
        for i in range(5):
            archive.writestr(f"__MACOSX/._{i}.png", b"junk")
    (note,) = read(tmp_path / "set.zip").notes
    assert note == (
        "set: hidden files left out: 5 (__MACOSX/._0.png, __MACOSX/._1.png, __MACOSX/._2.png, ...)"
    )


def npz(folder: Path) -> Path:
    np.savez(
        folder / "a.npz", y=np.arange(5), other=np.zeros(3), images=grey(5, 4, 6), more=np.zeros(2)
    )
    return folder / "a.npz"


def idx(folder: Path) -> Path:
    for name, array in (
        ("x-images-idx3-ubyte", grey(5, 4, 6)),
        ("x-labels-idx1-ubyte", np.arange(5, dtype=np.uint8)),
    ):
        sides = b"".join(n.to_bytes(4, "big") for n in array.shape)
        (folder / name).write_bytes(bytes([0, 0, 8, array.ndim]) + sides + array.tobytes())
    return folder / "x-images-idx3-ubyte"


def npy(array: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.save(folder / "a.npy", array)
        return folder / "a.npy"

    return make


@pytest.mark.parametrize(
    ("make", "note"),
    [
        (npz, "a.npz: array 'images' is read; left out: 'other', 'more'"),
        (idx, "x-images-idx3-ubyte: labels are read from x-labels-idx1-ubyte beside it"),
        (
            npy(grey(5, 4, 6).astype(float)),
            "a: real numbers that are all whole, 0..248, taken for levels of 0..255",
        ),
        (
            npy((grey(5, 4, 6) > 99).astype("f4")),
            "a: real numbers that are all whole, 0..1, taken for black and white",
        ),
        (
            npy(grey(5, 3, 4, 3)),
            "a: of the shape (5, 3, 4, 3), axis 1 is taken for the channels, not axis 3",
        ),
        (npy(np.array([[2**53 + 1, 0]])), "a: whole numbers beyond 2**53 are rounded to float64"),
        (npy(np.zeros((3, 2), np.longdouble)), "a: numbers of 128 bits are rounded to float64"),
        (npy(grey(5, 4, 6)), None),
        (npy(np.random.default_rng(0).normal(size=(5, 4))), None),
    ],
)
def test_an_array_file_says_what_was_assumed(
    tmp_path: Path, make: Callable[[Path], Path], note: str | None
) -> None:
    assert read(make(tmp_path)).notes == (() if note is None else (note,))


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\x08",
        b"\x93NUMPY\x01\0"
        + (70).to_bytes(2, "little")
        + b"{'descr': '<f8', 'shape': ((, ".ljust(69)
        + b"\n",
    ],
)
def test_a_damaged_header_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("a.npy" if len(content) > 3 else "a")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^/.*(cannot be read|is neither an image set nor IDX)"):
        read(path)


def test_a_fingerprint_is_of_values_labels_shape_and_dtype_and_of_no_name(tmp_path: Path) -> None:
    array = grey(50, 4, 4)
    labels = np.arange(50)

    def digest(values: np.ndarray, given: np.ndarray | None = labels, name: str = "a") -> str:
        return fingerprint(Data(values, 256, given, name, "images"))

    first = digest(array)
    assert first == digest(array.copy(), labels.copy(), "b")
    changed = array.copy()
    changed[-1, -1, -1] ^= 1
    others = [
        digest(changed),
        digest(array[:-1], labels[:-1]),
        digest(array.reshape(50, 2, 8)),
        digest(array.view(np.int8)),
        digest(array, labels[::-1]),
        digest(array, None),
    ]
    assert len({first, *others}) == 7
    np.save(tmp_path / "a.npy", array)
    assert fingerprint(read(tmp_path / "a.npy")) == digest(array[:, None], None)  # a mapped file


def test_a_fingerprint_does_not_depend_on_the_size_of_the_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = Data(grey(50, 4, 4), 256, np.arange(50), "a", "images")
    whole = fingerprint(data)
    monkeypatch.setattr("experiments.data.records.HASH_BLOCK", 100)
    assert fingerprint(data) == whole


# Black and white pictures and the codec.


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("binary")
    np.save(folder / "x.npy", (grey(60, 6, 6) > 128).astype(np.uint8))
    options = {"steps": 2, "latents": (2,), "hidden": (8,), "validation_samples": 2, "threads": 1}
    train_density.train(
        train_density.Config.of(data=str(folder / "x.npy"), out=folder / "run", **options)
    )
    return folder / "run"


def coded(run: Path, source: Path, out: Path) -> dict:
    result = compress.main(
        compress.Config(run=run, data=str(source), out=out.with_suffix(".bits"), ideal_samples=0)
    )
    decompress.main(decompress.Config(run=run, data=out.with_suffix(".bits"), out=out))
    return result


def test_the_pictures_that_decompress_wrote_are_compressed_again(
    binary: Path, tmp_path: Path
) -> None:
    array = (grey(5, 6, 6) > 100).astype(np.uint8)
    np.save(tmp_path / "a.npy", array)
    assert "notes" not in coded(binary, tmp_path / "a.npy", tmp_path / "pictures")
    result = coded(binary, tmp_path / "pictures", tmp_path / "again")
    assert result["files"] == 5
    first = read(tmp_path / "pictures")
    again = read(tmp_path / "again")
    assert np.array_equal(first.values, again.values)
    assert np.array_equal(first.values[:, 0], 255 * array)
    assert 8 * array.size > result["initial_bits"] + result["net_bits"]  # 0 and 255 cost bits


@pytest.mark.parametrize("dtype", ["u1", "i8", ">f4"])
def test_arrays_of_0_and_255_come_back_with_their_dtype(
    binary: Path, tmp_path: Path, dtype: str
) -> None:
    array = np.where(grey(5, 6, 6) > 100, 255, 0).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    coded(binary, tmp_path / "a.npy", tmp_path / "back.npy")
    back = np.load(tmp_path / "back.npy")
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_pictures_of_one_bit_go_through_a_black_and_white_run(binary: Path, tmp_path: Path) -> None:
    bits = grey(3, 6, 6) > 100
    for i, image in enumerate(bits):
        saved(tmp_path / "one" / f"{i}.png", image)
    coded(binary, tmp_path / "one", tmp_path / "back.npy")
    assert np.array_equal(np.load(tmp_path / "back.npy")[:, 0], bits)


def test_pictures_of_one_bit_are_black_and_white_to_a_run_of_more_levels(tmp_path: Path) -> None:
    options = {"steps": 2, "latents": (2,), "hidden": (8,), "validation_samples": 2, "threads": 1}
    np.save(tmp_path / "x.npy", grey(60, 6, 6))
    likelihood = {"likelihood": "logistic", "binarisation": "none"}
    train_density.train(
        train_density.Config.of(
            data=str(tmp_path / "x.npy"), out=tmp_path / "run", **options, **likelihood
        )
    )
    bits = grey(3, 6, 6) > 100
    for i, image in enumerate(bits):
        saved(tmp_path / "one" / f"{i}.png", image)
    seen = fit_to(TrainedDensity.open(tmp_path / "run", "cpu"), read(tmp_path / "one"))
    assert np.array_equal(seen.values[:, 0], 255 * bits)
    assert (
        seen.notes[-1]
        == "one: 1 bit a pixel, read as 0 and 255 of the 256 levels of the training set"
    )
    result = coded(tmp_path / "run", tmp_path / "one", tmp_path / "back")
    assert result["files"] == 3
    again = read(tmp_path / "back")
    assert again.one_bit
    assert np.array_equal(again.values[:, 0], bits)
