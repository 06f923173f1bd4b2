"""Reading a folder of small PNG images, compared with a loop over Pillow in one thread.

The loop assumes that all files are images of one size and mode; the reader checks that, and returns
classes and notes. A cached set is also read again, from its mapped file.

``python -m experiments.benchmarks.image_reading``
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from experiments.benchmarks.harness import compare, report
from experiments.data.image_cache import ImageCache
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ImageReading
from experiments.data.readers import read
from univae.checkpoint import JsonObject


def write_images(folder: Path, count: int, side: int) -> None:
    """Write smooth colour images with noise, in ten class folders."""
    generator = np.random.default_rng(0)
    slope = np.add.outer(np.arange(side), np.arange(side))[..., None] * np.array([1, 2, 3])
    for number in range(count):
        image = slope + generator.integers(0, 30, (side, side, 3))
        path = folder / f"{number % 10}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(path)


def contest(count: int, side: int, rounds: int, clock: Literal["wall", "cpu"]) -> JsonObject:
    """Time the loop, the reader, and the reader of a set that is in a cache."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root / "set", count, side)
        cached = ImageFiles(ImageReading(), ImageCache(root / "cache"))
        contestants: dict[str, Callable[[], object]] = {
            "pillow": lambda: _loop(root / "set"),
            "reader": lambda: read(root / "set"),
            "cached": lambda: read(root / "set", cached),
        }
        times = compare(contestants, rounds, warmup=1, clock=clock)
    rates = {name: 1e3 * count / row["milliseconds"] for name, row in times.items()}
    return {"images": count, "side": side, "images_per_second": rates, **times}


def _loop(folder: Path) -> np.ndarray:
    images = []
    for path in sorted(folder.rglob("*.png")):
        with Image.open(path) as image:
            images.append(np.asarray(image))
    return np.moveaxis(np.stack(images), -1, 1)


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5000, help="images in the folder")
    parser.add_argument("--side", type=int, default=32, help="pixels of their height and width")
    parser.add_argument("--rounds", type=int, default=5, help="timed reads of each contestant")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: on a machine that is busy"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    results = [contest(arguments.count, arguments.side, arguments.rounds, arguments.clock)]
    report("image_reading", results, arguments.out)


if __name__ == "__main__":
    main()
