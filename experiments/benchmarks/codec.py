"""Bits-back coding of binarised images by a 784-200-200-50 perceptron: milliseconds per image.

One thread. Weights and images are random without ``--run`` (of train-density) and ``--data``; the
cost does not depend on the weights. ``network`` is the time to evaluate the posterior of an image
and the table of its pixels, as encoding and decoding do, in the same float64 tiles. ``processor``
times exclude other programs. Published, on the same class of machine: 130 ms to encode and 197 ms
to decode.

``python -m experiments.benchmarks.codec --data FILE --run RUN``
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch

from density.coding.ans import frequencies
from density.coding.bits_back import BitsBack
from density.coding.compress import exactly, levels_of, pixel_code, prepared
from density.coding.data_code import Coding
from density.coding.pixels import log_table
from density.images.base import DataModel
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from density.model import LatentModel
from density.trained import TrainedDensity
from experiments.benchmarks.harness import report
from experiments.data.binarisation import binarise
from experiments.data.readers import read
from univae.checkpoint import JsonObject

SHAPE = (1, 28, 28)
BLACK = 0.13  # fraction of black pixels in random images, about that of MNIST
BINARY = 2  # levels of a pixel
PUBLISHED = {"encode": 130.0, "decode": 197.0}  # milliseconds per image of the published coder
PUBLISHED_PARTICLES = 1
CASES = ((1, 1), (1, 4), (16, 4))  # particles and images in a tile

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True)
class Timed(Generic[Result_co]):
    """The result of an action, with its wall-clock and processor seconds."""

    result: Result_co
    wall: float
    processor: float


def timed(action: Callable[[], Result]) -> Timed[Result]:
    """Run and time an action."""
    wall_start = time.perf_counter()
    processor_start = time.process_time()
    result = action()
    wall = time.perf_counter() - wall_start
    return Timed(result, wall, time.process_time() - processor_start)


@dataclass
class Seconds:
    """The seconds of an action in every round."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def add(self, measured: Timed[object]) -> None:
        """Append a round."""
        self.wall.append(measured.wall)
        self.processor.append(measured.processor)


def evaluate_network(model: LatentModel, coder: BitsBack, images: np.ndarray, case: Coding) -> None:
    """Evaluate the network as often as coding does: posteriors, and tables for each particle."""
    passes = case.particles + (case.particles > 1)
    for start in range(0, len(images), case.tile):
        x = coder.emission.tile(images[start : start + case.tile])
        q = model.posterior(x)
        for _ in range(passes):
            probabilities = log_table(model.likelihood(q.mean)).exp()
            frequencies(probabilities.reshape(-1, BINARY).contiguous().numpy())


def contest(
    model: DataModel, images: np.ndarray, particles: int, tile: int, rounds: int
) -> JsonObject:
    """Return medians over rounds of encoding and decoding all images."""
    exact_model = prepared(model)
    case = Coding(particles, tile)
    seconds = {"encode": Seconds(), "decode": Seconds(), "network": Seconds()}
    with exactly():
        coder = BitsBack(exact_model, pixel_code(exact_model, SHAPE, tile), case)
        for _ in range(rounds):
            encoding = timed(partial(coder.push, images))
            coded = encoding.result
            decoding = timed(partial(coder.pop, coded.words, coded.count, coded.plain))
            network = timed(partial(evaluate_network, exact_model, coder, images, case))
            if not np.array_equal(decoding.result, images):
                raise SystemExit("codec: the decoded images differ from the encoded ones")
            seconds["encode"].add(encoding)
            seconds["decode"].add(decoding)
            seconds["network"].add(network)

    net_bits = coded.net_bits / (len(images) - coded.plain) / images[0].size
    return {**_table(seconds, case, len(images)), "net_bits_per_dim": net_bits}


def _table(seconds: Mapping[str, Seconds], case: Coding, count: int) -> JsonObject:
    wall = {}
    processor = {}
    for name, each in seconds.items():
        wall[name] = 1e3 * float(np.median(each.wall)) / count
        processor[name] = 1e3 * float(np.median(each.processor)) / count
    speedup = {name: PUBLISHED[name] / processor[name] for name in PUBLISHED}
    return {
        "particles": case.particles,
        "tile": case.tile,
        "images": count,
        "milliseconds": wall,
        "processor_milliseconds": processor,
        "network_share": {name: processor["network"] / processor[name] for name in PUBLISHED},
        "times_published": speedup if case.particles == PUBLISHED_PARTICLES else None,
    }


def images_of(data: str | None, count: int) -> np.ndarray:
    """Return ``count`` binary images; random ones if ``data`` is None."""
    if data is None:
        pixels = np.random.default_rng(0).random((count, *SHAPE))
        return (pixels < BLACK).astype(np.int64)
    images = read(data)
    binary = images if images.levels == BINARY else binarise(images, "static")
    return levels_of(np.asarray(binary.values[:count]).reshape(-1, *SHAPE), BINARY)


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", help="images of 28x28 pixels, as for train-density; grey images are binarised"
    )
    parser.add_argument("--run", type=Path, help="a run of train-density on binarised images")
    parser.add_argument("--images", type=int, default=300, help="images to code")
    parser.add_argument("--rounds", type=int, default=5, help="timed repetitions")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = images_of(arguments.data or None, arguments.images)
    if arguments.run:
        model: DataModel = TrainedDensity.open(arguments.run, "cpu").model
    else:
        model = MLPVAE(Pixels(SHAPE))
    results = []
    for particles, tile in CASES:
        results.append(contest(model, images, particles, tile, arguments.rounds))
    report("codec", results, arguments.out)


if __name__ == "__main__":
    main()
