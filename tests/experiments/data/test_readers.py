"""Sources of images and tables: what each array becomes, and one line that refuses the rest."""

import gzip
import math
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.data import numpy_files
from experiments.data.built_in import BUILT_IN
from experiments.data.readers import read
from univae.errors import InputError
from univae.text.corpus import split

MNIST = Path(__file__).parents[4] / "shared/data/mnist"


def grey(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(n.to_bytes(4, "big") for n in array.shape)
        + array.tobytes()
    )


def picture(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


# Sources


@pytest.mark.parametrize("packed", [False, True])
def test_idx_images_come_back_with_the_labels_beside_them(tmp_path: Path, packed: bool) -> None:
    images = grey(5, 4, 6)
    labels = np.arange(5, dtype=np.uint8)
    end = ".gz" if packed else ""
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        content = idx(array)
        (tmp_path / f"{name}{end}").write_bytes(gzip.compress(content) if packed else content)
    data = read(tmp_path / f"train-images-idx3-ubyte{end}")
    assert (data.kind, data.levels, data.shape, len(data)) == ("images", 256, (1, 4, 6), 5)
    assert np.array_equal(data.values[:, 0], images)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3, 4]
    (tmp_path / f"train-labels-idx1-ubyte{end}").unlink()
    assert read(tmp_path / f"train-images-idx3-ubyte{end}").labels is None


@pytest.mark.skipif(not MNIST.exists(), reason="the real MNIST is not at hand")
def test_mnist_is_mnist() -> None:
    data = read(MNIST / "t10k-images-idx3-ubyte.gz")
    assert (data.shape, data.levels, len(data)) == ((1, 28, 28), 256, 10_000)
    assert data.labels is not None
    assert data.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.values.mean() == pytest.approx(33.79, abs=0.005)


def test_an_npz_gives_images_and_labels_by_name_else_its_first_array(tmp_path: Path) -> None:
    images = grey(5, 3, 4, 6)
    np.savez(tmp_path / "a.npz", y=np.arange(5), other=np.zeros(3), images=images)
    data = read(tmp_path / "a.npz")
    assert np.array_equal(data.values, images)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3, 4]
    np.savez(tmp_path / "b.npz", labels=np.arange(5), first=images, second=np.zeros(3))
    assert np.array_equal(read(tmp_path / "b.npz").values, images)
    np.savez(tmp_path / "c.npz", a=np.zeros(3), x=images)
    assert read(tmp_path / "c.npz").labels is None


def test_a_large_npy_is_mapped_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_files, "IN_MEMORY", 0)
    images = grey(5, 4, 6)
    np.save(tmp_path / "a.npy", images)
    data = read(tmp_path / "a.npy")
    base = data.values
    while not isinstance(base, np.memmap) and base.base is not None:
        base = base.base
    assert isinstance(base, np.memmap)
    batch = data.batch([3, 1])
    assert (batch.dtype, batch.shape) == (torch.float64, (2, 1, 4, 6))
    assert np.array_equal(batch[:, 0].numpy(), images[[3, 1]])
    batch.zero_()  # the file is not what it writes to
    assert np.array_equal(read(tmp_path / "a.npy").values[:, 0], images)


@pytest.mark.parametrize(
    ("array", "kind", "levels", "shape"),
    [
        (grey(5, 4, 6), "images", 256, (1, 4, 6)),
        (grey(5, 3, 4, 6), "images", 256, (3, 4, 6)),
        (grey(5, 4, 6, 3), "images", 256, (3, 4, 6)),
        (grey(5, 2, 8, 6), "images", 256, (2, 8, 6)),
        (grey(5, 4, 8, 6), "images", 256, (4, 8, 6)),
        (grey(5, 8, 6, 2), "images", 256, (2, 8, 6)),
        (grey(5, 8, 6, 4), "images", 256, (4, 8, 6)),
        (np.asfortranarray(grey(5, 3, 4, 6)), "images", 256, (3, 4, 6)),
        (grey(5, 4, 6).astype(">i4"), "images", 256, (1, 4, 6)),
        ((grey(5, 4, 6) / 255).astype(np.float16), "images", None, (1, 4, 6)),
        ((grey(5, 4, 6) / 255).astype(">f4"), "images", None, (1, 4, 6)),
        (grey(5, 4, 6).astype(np.int64), "images", 256, (1, 4, 6)),
        (grey(5, 4, 6).astype(np.float32), "images", 256, (1, 4, 6)),
        (grey(5, 4, 6) > 100, "images", 2, (1, 4, 6)),
        ((grey(5, 4, 6) > 100).astype(float), "images", 2, (1, 4, 6)),
        (grey(5, 4, 6) / 255, "images", None, (1, 4, 6)),
        (grey(5, 4, 6) - 1.0, "images", None, (1, 4, 6)),
        (grey(5, 4), "table", 256, (4,)),
        (grey(5, 4) > 100, "table", 2, (4,)),
        (grey(5, 4).astype(np.int64), "table", None, (4,)),
        (grey(5, 4).astype(">f8"), "table", None, (4,)),
        (np.full((5, 4), -1e308) * [1, -1, 1, 1], "table", None, (4,)),
    ],
)
def test_arrays_are_images_or_tables_of_levels_or_real_numbers(
    array: np.ndarray, kind: str, levels: int | None, shape: tuple[int, ...], tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", array)
    data = read(tmp_path / "a.npy")
    assert (data.kind, data.levels, data.shape) == (kind, levels, shape)
    assert data.values.dtype == (np.float64 if levels is None else np.uint8)
    last = array.ndim == 4 and array.shape[1:] == (*shape[1:], shape[0])
    expected = np.moveaxis(array, 3, 1) if last else array.reshape(5, *shape)
    assert np.array_equal(data.batch(slice(None)).numpy(), expected)


def test_a_folder_is_read_in_the_order_of_its_names_without_hidden_files(tmp_path: Path) -> None:
    images = grey(3, 4, 6)
    for i, name in enumerate(["a.png", "b.png", "c.PNG"]):
        picture(tmp_path / name, images[i])
    (tmp_path / ".DS_Store").write_bytes(b"junk")
    data = read(tmp_path)
    assert np.array_equal(data.values[:, 0], images)
    assert (data.levels, data.labels, data.kind) == (256, None, "images")
    assert data.name == tmp_path.name


@pytest.mark.parametrize("zipped", [False, True])
def test_subfolders_are_classes_in_their_order(tmp_path: Path, zipped: bool) -> None:
    images = grey(3, 4, 6, 3)
    folder = tmp_path / "set"
    for i, name in enumerate(["cat/1.png", "cat/2.png", "dog/0.png"]):
        picture(folder / name, images[i])
    if zipped:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for path in sorted(folder.rglob("*"), reverse=True):
                archive.write(path, path.relative_to(folder))
            archive.writestr("__MACOSX/cat/._1.png", b"junk")
    data = read(tmp_path / "set.zip" if zipped else folder)
    assert data.name == "set"
    assert np.array_equal(data.values, np.moveaxis(images, 3, 1))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1]


def test_jpeg_palettes_and_opaque_alpha_are_images_like_others(tmp_path: Path) -> None:
    array = np.full((8, 8, 3), (200, 30, 90), np.uint8)
    for name, mode in (("a.jpg", None), ("b.png", "P"), ("c.png", "RGBA")):
        picture(tmp_path / name, array, mode)
    data = read(tmp_path)
    assert data.shape == (3, 8, 8)
    assert np.abs(data.values[0].astype(int) - np.moveaxis(array, 2, 0)).max() < 8  # JPEG rounds
    assert np.array_equal(data.values[2], np.moveaxis(array, 2, 0))
    bits = np.eye(8, dtype=bool)
    Image.fromarray(bits).save(tmp_path / "bits.png")
    only = tmp_path / "only"
    only.mkdir()
    (tmp_path / "bits.png").rename(only / "bits.png")
    assert read(only).shape == (1, 8, 8)
    assert np.array_equal(read(only).values[0, 0], bits)  # 1 bit a pixel: black is 0, white is 1
    assert read(only).levels == 2


@pytest.mark.parametrize(
    ("name", "count", "shape", "levels"),
    [
        ("digits", 1797, (1, 8, 8), 17),
        ("breast_cancer", 569, (30,), None),
        ("diabetes", 442, (10,), None),
        ("iris", 150, (4,), None),
        ("wine", 178, (13,), None),
    ],
)
def test_built_in_sets_are_there_by_name(
    name: str, count: int, shape: tuple[int, ...], levels: int | None
) -> None:
    data = read(name)
    assert name in BUILT_IN
    assert (data.name, len(data), data.shape, data.levels) == (name, count, shape, levels)
    assert data.labels is not None
    assert len(data.labels) == count
    assert data.kind == ("images" if name == "digits" else "table")
    if levels:
        assert (data.values.min(), data.values.max()) == (0, 16)


def test_the_split_of_a_set_is_a_function_of_its_seed() -> None:
    train, held_out = split(len(read("iris")), 0.2, seed=3)
    assert (len(train), len(held_out)) == (120, 30)
    assert np.array_equal(split(150, 0.2, seed=3)[1], held_out)


# What is no data set


def saved(array: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.save(folder / "a.npy", array)
        return folder / "a.npy"

    return make


def packed(**arrays: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez(folder / "a.npz", **arrays)
        return folder / "a.npz"

    return make


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def pictures(**files: np.ndarray | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name, content in files.items():
            path = folder / f"{name.replace('__', '/')}.png"
            path.parent.mkdir(exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                picture(path, content)
        return folder

    return make


def nan_at(i: int, value: float) -> np.ndarray:
    array = np.zeros((5, 3))
    array[i, 1] = value
    return array


def png(array: np.ndarray, change: Callable[[bytes], bytes]) -> bytes:
    file = BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return change(file.getvalue())


def chunk_cut(content: bytes) -> bytes:
    start = content.index(b"IDAT") - 4
    return content[:start] + (5).to_bytes(4, "big") + content[start + 4 :]


def enormous(content: bytes) -> bytes:
    header = b"IHDR" + 2 * (40_000).to_bytes(4, "big") + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


def saved_objects() -> bytes:
    file = BytesIO()
    np.save(file, np.array([[{}]], object), allow_pickle=True)
    return file.getvalue()


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (
        lambda folder: folder / "nothing",
        r"is no file, folder or built-in set \(digits, .*\); give a folder",
    ),
    "nan": (saved(nan_at(3, math.nan)), r"must be finite; got NaN or infinity in row 3"),
    "infinity": (saved(nan_at(1, -math.inf)), r"must be finite; got NaN or infinity in row 1"),
    "one axis": (saved(np.zeros(5)), r"must be \(N, columns\).*; got \(5,\)"),
    "five axes": (saved(np.zeros((2, 2, 2, 2, 2))), r"got \(2, 2, 2, 2, 2\)"),
    "no data": (saved(np.zeros((0, 3))), r"all positive; got \(0, 3\)"),
    "five channels": (
        saved(grey(5, 5, 6, 6)),
        r"must have 1 to 4 channels, first or last; got \(5, 5, 6, 6\)",
    ),
    "negative": (saved(grey(5, 4, 4).astype(int) - 300), r"must be levels 0..255; got -299"),
    "too bright": (saved(grey(5, 4, 4).astype(int) + 300), r"must be levels 0..255; got 30"),
    "one too bright": (saved(np.full((5, 4, 4), 256)), r"must be levels 0..255; got 256..256"),
    "complex": (saved(np.zeros((5, 3), complex)), r"must hold numbers; got dtype complex128"),
    "objects": (
        packed(x=np.array([{}, 1], object)),
        r"cannot be read \(Object arrays cannot be loaded",
    ),
    "objects in npy": (
        written("a.npy", saved_objects()),
        r"a.npy cannot be read \(Array can't be memory-mapped: Python objects",
    ),
    "structured": (
        saved(np.zeros((5, 3), [("a", "f4")])),
        r"must hold numbers; got dtype \[\('a', '<f4'\)\]",
    ),
    "words": (packed(x=np.array([["a"]])), r"must hold numbers; got dtype <U1"),
    "few labels": (
        packed(x=grey(5, 4, 4), y=np.arange(4)),
        r"labels of .* must be 5 numbers; got int64 of shape \(4,\)",
    ),
    "word labels": (
        packed(x=grey(1, 4, 4), y=np.array(["a"])),
        r"labels of .* must be 1 numbers; got <U1",
    ),
    "only labels": (packed(y=np.arange(4)), r"holds no array of data; save one as 'images' or 'x'"),
    "cut npy": (written("a.npy", b"\x93NUMPY\x01"), r"a.npy cannot be read \("),
    "no npz": (written("a.npz", b"PK\x03\x04junk"), r"a.npz cannot be read \("),
    "no zip": (
        written("a.zip", b"junk"),
        r"a.zip cannot be read \(File is not a zip file\); give a folder, .zip or .tar",
    ),
    "a text": (
        written("a.txt", b"hello"),
        r"a.txt is neither an image set nor IDX of unsigned bytes; convert it to .npy or PNG",
    ),
    "cut gzip": (
        written("a.gz", gzip.compress(idx(grey(5, 4, 4)))[:-20]),
        r"a.gz cannot be read \(",
    ),
    "spoilt gzip": (
        written("a.gz", gzip.compress(b"")[:10] + b"\xff" * 20),
        r"a.gz cannot be read \(Error -3",
    ),
    "cut idx": (
        written("a", idx(grey(5, 4, 4))[:-3]),
        r"should hold 80 bytes of \(5, 4, 4\); got 77; copy it again",
    ),
    "long idx": (
        written("a", idx(grey(5, 4, 4)) + b"x"),
        r"should hold 80 bytes of \(5, 4, 4\); got more; copy it again",
    ),
    "idx of half a header": (
        written("a", idx(grey(5, 4, 4))[:6]),
        r"a ends inside its header, after 6 bytes; copy it",
    ),
    "idx of real numbers": (
        written("a", b"\0\0\x0d" + idx(grey(5, 4, 4))[3:]),
        r"a is neither an image set nor IDX of unsigned bytes",
    ),
    "empty folder": (lambda folder: folder, r"holds no image"),
    "no image": (
        pictures(a=b"junk"),
        r"a.png cannot be read as an image \(its content is of another format\); remove it, or",
    ),
    "broken image": (
        pictures(a=png(grey(64, 64), chunk_cut)),
        r"a.png cannot be read as an image \(broken PNG",
    ),
    "enormous image": (
        pictures(a=png(grey(4, 4), enormous)),
        r"a.png may have at most 178,956,970 pixels; got more; make it smaller, or leave it out",
    ),
    "mixed sizes": (
        pictures(a=grey(4, 4), b=grey(4, 5)),
        r"of one size; .* = \(4, 4\) in a.png, \(4, 5\) in b.png; --size 64 resizes",
    ),
    "beside classes": (
        pictures(a=grey(4, 4), cat__b=grey(4, 4)),
        r"holds images, a.png for one, beside class folders such as cat; give",
    ),
    "16 bits": (
        pictures(a=np.zeros((4, 4), np.uint16)),
        r"must be grey or RGB of 8 bits; got 16 bits a channel; --bits 8 keeps the high 8 bits",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_data_set_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    make, message = BAD[case]
    with pytest.raises(InputError, match=message) as refused:
        read(make(tmp_path))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"secret")
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of the file, and of its entry in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a.zip cannot be read \(File 'a.png' is encrypted"):
        read(path)


def test_a_file_one_may_not_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(grey(5, 4, 4))(tmp_path)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError("permission denied")

    monkeypatch.setattr(np, "load", denied)
    with pytest.raises(InputError, match=r"a.npy cannot be read \(permission denied\)"):
        read(path)
