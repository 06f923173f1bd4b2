"""Bits-back coding of binarised images by a 784-200-200-50 perceptron: milliseconds an image, and what takes them.

One thread, with random weights on random images unless ``--run`` (of train-density) and ``--data``
say otherwise; the weights do not change the work. ``network`` is what evaluating the posterior of
an image and the table of its pixels takes, as both encoding and decoding do, in the same float64
tiles; ``coder`` is the rest. ``processor`` times leave out what other programs on the machine took.
Published, the same machine class: 130 ms to encode and 197 ms to decode.

``python -m experiments.benchmarks.codec --data FILE --run RUN``
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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
from density.trained import TrainedDensity
from experiments.benchmarks.harness import report
from experiments.data.binarisation import binarise
from experiments.data.readers import read

SHAPE = (1, 28, 28)
PUBLISHED = {"encode": 130.0, "decode": 197.0}  # milliseconds an image of the reference coder


def timed(action: Callable[[], Any]) -> tuple[Any, float, float]:
    """What an action returns, with its seconds on the clock and on the processor."""
    clock = time.perf_counter()
    processor = time.process_time()
    result = action()
    return result, time.perf_counter() - clock, time.process_time() - processor


def contest(
    model: DataModel, images: np.ndarray, particles: int, tile: int, rounds: int
) -> dict[str, Any]:
    """Medians over rounds of encoding and decoding all images."""
    owned = prepared(model)
    count = len(images)
    seconds: dict[str, list[tuple[float, float]]] = {"encode": [], "decode": [], "network": []}
    with exactly():
        coder = BitsBack(owned, pixel_code(owned, SHAPE, tile), Coding(particles, tile))

        def network() -> None:
            for start in range(0, count, tile):
                x = coder.emission.tile(images[start : start + tile])
                q = owned.posterior(x)
                for _ in range(particles + (particles > 1)):
                    frequencies(
                        log_table(owned.likelihood(q.mean))
                        .exp()
                        .reshape(-1, 2)
                        .contiguous()
                        .numpy()
                    )

        for _ in range(rounds):
            coded, *encode = timed(partial(coder.push, images))
            back, *decode = timed(partial(coder.pop, coded.words, coded.count, coded.plain))
            _, *alone = timed(network)
            if not np.array_equal(back, images):
                raise SystemExit("codec: the images did not come back")
            for name, pair in zip(seconds, (encode, decode, alone), strict=True):
                seconds[name].append((pair[0], pair[1]))
    clock = {
        name: 1e3 * float(np.median([a for a, _ in pairs])) / count
        for name, pairs in seconds.items()
    }
    processor = {
        name: 1e3 * float(np.median([b for _, b in pairs])) / count
        for name, pairs in seconds.items()
    }
    return {
        "particles": particles,
        "tile": tile,
        "images": count,
        "milliseconds": clock,
        "processor_milliseconds": processor,
        "network_share": {name: processor["network"] / processor[name] for name in PUBLISHED},
        "times_published": {name: PUBLISHED[name] / processor[name] for name in PUBLISHED}
        if particles == 1
        else None,
        "net_bits_per_dim": coded.net_bits / (count - coded.plain) / images[0].size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", help="images of 28x28, what train-density takes; grey ones are binarised"
    )
    parser.add_argument("--run", type=Path, help="a run of train-density on binarised images")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if a.data:
        data = read(a.data)
        data = data if data.levels == 2 else binarise(data, "static")
        images = levels_of(np.asarray(data.values[: a.images]).reshape(-1, *SHAPE), 2)
    else:
        images = (np.random.default_rng(0).random((a.images, *SHAPE)) < 0.13).astype(np.int64)
    model = TrainedDensity.open(a.run, "cpu").model if a.run else MLPVAE(Pixels(SHAPE))
    results = [
        contest(model, images, particles, tile, a.rounds)
        for particles, tile in ((1, 1), (1, 4), (16, 4))
    ]
    report("codec", results, a.out)


if __name__ == "__main__":
    main()
