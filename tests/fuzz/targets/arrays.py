"""Arrays: .npy, .npz, IDX with labels, plain and gzipped; standard input of any of these."""

import gzip
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np

from experiments.data.arrays import all_alike
from experiments.data.readers import read as read_data
from experiments.data.records import fingerprint
from experiments.data.standard_streams import source_file
from experiments.gans.fid import read_statistics
from tests.fuzz.target import Target

DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (5, 4, 3), dtype=np.uint8)
LABELS = np.arange(5)


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def make(folder: Path) -> Sequence[Path]:
    np.save(folder / "bytes.npy", IMAGES)
    np.save(folder / "colour.npy", DRAW.normal(size=(4, 3, 2, 2)))
    np.save(folder / "table.npy", DRAW.normal(size=(5, 3)).astype(np.float32))
    np.savez(folder / "plain.npz", images=IMAGES, labels=LABELS)
    np.savez_compressed(folder / "packed.npz", x=IMAGES, y=LABELS)
    contents = {
        "a-images-idx3-ubyte": idx(IMAGES),
        "a-labels-idx1-ubyte": idx(LABELS),
        "b-images-idx3-ubyte.gz": gzip.compress(idx(IMAGES), mtime=0),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def read(path: Path) -> None:
    if "labels" in path.name:
        path = path.with_name("a-images-idx3-ubyte")
    data = read_data(path)
    fingerprint(data)
    all_alike(data)
    data.batch(slice(0, 2))


def read_stream(path: Path) -> None:
    """Read a file as standard input."""
    stream = SimpleNamespace(buffer=BytesIO(path.read_bytes()), isatty=lambda: False)
    with patch("sys.stdin", stream), source_file("-") as source:
        read_data(source)


def make_streams(folder: Path) -> Sequence[Path]:
    return [path for path in make(folder) if "labels" not in path.name]


def make_statistics(folder: Path) -> Sequence[Path]:
    moments = {"mu": DRAW.normal(size=3), "sigma": np.eye(3)}
    np.savez(folder / "plain.npz", **moments)
    np.savez_compressed(folder / "packed.npz", **moments)
    return sorted(folder.iterdir())


TARGETS: list[Target] = [
    Target("arrays", make, read),
    Target("standard-input", make_streams, read_stream),
    Target("reference-statistics", make_statistics, read_statistics),
]
