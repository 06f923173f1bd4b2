"""Memory and time of training on a folder of many small PNG images, as it grows.

For every number of images, a new process trains a small model for some steps, as
``univae train-density`` does, and a second process starts from the run's cache of decoded images.
``above_imports`` is the peak of resident memory above that of the imported libraries.

``python -m experiments.benchmarks.image_folder_memory --images 1000 10000 100000``
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.benchmarks.harness import peak_bytes, report
from experiments.benchmarks.image_reading import write_images
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ImageReading
from experiments.images.training_data import ArrayData
from experiments.train_density import Config, train
from experiments.training.settings import Settings
from univae.checkpoint import JsonObject

SIDE = 32  # pixels
STEPS = 5


def measure_training(images: Path, cache: Path) -> JsonObject:
    """Train in this process; return seconds, and the peak of resident memory in bytes."""
    imported = peak_bytes()
    with tempfile.TemporaryDirectory(dir=images.parent) as folder:
        out = Path(folder) / "run"
        reading = ImageReading(cache=str(cache))
        start = time.perf_counter()
        ImageFiles.for_run(reading, out).read(images)
        read_seconds = time.perf_counter() - start
        read_peak = peak_bytes()
        settings = Settings(steps=STEPS, validate_every=STEPS)
        data = ArrayData(data=str(images))
        train(Config(data=data, out=out, images=reading, training=settings))
    return {
        "read_seconds": read_seconds,
        "seconds": time.perf_counter() - start,
        "above_imports": {"read": read_peak - imported, "trained": peak_bytes() - imported},
    }


def measure(count: int, folder: Path) -> JsonObject:
    """Return what :func:`measure_training` measures, decoding images and with a cache."""
    images = folder / f"images-{count}"
    write_images(images, count, SIDE)
    result: JsonObject = {"images": count, "decoded_bytes": count * 3 * SIDE * SIDE}
    for name in ("decoding", "cached"):
        command = [sys.executable, "-m", "experiments.benchmarks.image_folder_memory"]
        paths = [str(images), str(folder / "cache")]
        result[name] = json.loads(subprocess.check_output([*command, "--train", *paths]))
    return result


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[200, 800], help="folder sizes")
    parser.add_argument("--folder", type=Path, help="where images and runs are written")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--train", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train is not None:
        print(json.dumps(measure_training(*arguments.train)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = [measure(count, Path(folder)) for count in arguments.images]
    report("image_folder_memory", results, arguments.out)


if __name__ == "__main__":
    main()
