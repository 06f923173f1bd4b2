"""Coding and sampling of autoregressive pixels: milliseconds per image, raster order and waves.

One thread. In raster order, that of the first files, every pixel is a step; in waves a step is all
pixels that do not depend on each other, and a level of 256 is two digits. The images are the same,
of 28x28 pixels, and all come back. Times are of the images that are coded by latents, medians over
rounds in which the orders alternate; ``processor`` times exclude other programs.
``chosen_tile`` is that of ``univae compress`` for 10,000 images. Weights and images are random
without ``--binary`` and ``--grey`` (runs of train-density) and ``--data``.

``python -m experiments.benchmarks.pixel_coding --data FILE --binary RUN --grey RUN``
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Size

from density.coding.bits_back import BitsBack
from density.coding.compress import BLOCK, exactly, levels_of, pixel_code, prepared
from density.coding.data_code import Coding
from density.images.base import DataModel
from density.images.mlp import MLPVAE
from density.likelihoods.autoregressive import CausalPixels, RasterWalk, WaveWalk
from density.likelihoods.head import Pixels
from density.trained import TrainedDensity
from experiments.benchmarks.codec import BINARY, SHAPE, Seconds, images_of, timed
from experiments.benchmarks.harness import report
from experiments.data.readers import read
from experiments.images.codec import ArrayCodec
from univae.checkpoint import JsonObject

LEVELS = 256
TILES = (1, 4, 16)
BATCHES = (10, 64)  # images sampled together
MANY = 10_000  # images of ``chosen_tile``
ORDERS = {"raster": False, "waves": True}
WALKS = {"raster": RasterWalk, "waves": WaveWalk}


def coding(model: DataModel, images: np.ndarray, tile: int, rounds: int) -> JsonObject:
    """Return milliseconds to encode and decode an image in both orders, and its bits."""
    exact_model = prepared(model)
    table: dict[str, JsonObject] = {}
    seconds = {name: {"encode": Seconds(), "decode": Seconds()} for name in ORDERS}
    with exactly():
        coders = {}
        for name, waves in ORDERS.items():
            code = pixel_code(exact_model, SHAPE, tile, waves=waves)
            coders[name] = BitsBack(exact_model, code, Coding(1, tile, waves=waves))
        for _ in range(rounds):
            for name, coder in coders.items():
                encoding = timed(partial(coder.push, images))
                coded = encoding.result
                decoding = timed(partial(coder.pop, coded.words, coded.count, coded.plain))
                if not np.array_equal(decoding.result, images):
                    raise SystemExit("pixel_coding: the decoded images differ")
                seconds[name]["encode"].add(encoding)
                seconds[name]["decode"].add(decoding)
                rows = coded.count - coded.plain
                if not rows:
                    raise SystemExit("pixel_coding: no image is coded by latents; give more")
                table[name] = {"coded": rows, "net_bits_per_image": coded.net_bits / rows}
    for name, by_action in seconds.items():
        for action, each in by_action.items():
            per_image = 1e3 / table[name]["coded"]
            table[name][action] = {
                "processor_milliseconds": per_image * float(np.median(each.processor)),
                "milliseconds": per_image * float(np.median(each.wall)),
            }
    return {"tile": tile, "images": len(images), **table}


@torch.inference_mode()
def sampling(model: DataModel, count: int, rounds: int) -> JsonObject:
    """Return processor milliseconds to sample an image in both orders."""
    seconds = {name: Seconds() for name in WALKS}
    joint = model.likelihood(model.prior().sample(Size((count,))))
    assert isinstance(joint, CausalPixels)
    for _ in range(rounds):
        for name, walk in WALKS.items():
            seconds[name].add(timed(_drawing(walk(joint, joint.batch_shape))))
    by_order = {name: 1e3 * float(np.median(each.processor)) for name, each in seconds.items()}
    return {"images": count, **{name: value / count for name, value in by_order.items()}}


def _drawing(walk: RasterWalk) -> Callable[[], None]:
    """Return an action that draws all pixels of a walk."""

    def draw() -> None:
        for position in walk.positions():
            walk.put(position, walk.distribution(position).sample())

    return draw


def model_of(run: Path | None, pixels: Pixels) -> DataModel:
    """Return the model of a run, or one of random weights."""
    if run is None:
        return MLPVAE(pixels, (32,), ((200,),), "gelu")
    return TrainedDensity.open(run, "cpu").model


def grey_images(data: str | None, count: int) -> np.ndarray:
    """Return ``count`` images of 256 levels; random ones if ``data`` is None."""
    if data is None:
        return np.random.default_rng(0).integers(LEVELS, size=(count, *SHAPE))
    return levels_of(np.asarray(read(data).values[:count]).reshape(-1, *SHAPE), LEVELS)


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="grey images of 28x28 pixels, as for train-density")
    parser.add_argument("--binary", type=Path, help="a run of train-density on binarised images")
    parser.add_argument("--grey", type=Path, help="a run of train-density on 256 levels")
    parser.add_argument("--images", type=int, default=64, help="images to code")
    parser.add_argument("--rounds", type=int, default=3, help="timed repetitions")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    binary = Pixels(SHAPE, "bernoulli", BINARY, reach=5, context=16)
    grey = replace(binary, likelihood="logistic", levels=LEVELS, components=3, reach=4)
    cases = {
        "binary": (arguments.binary, binary, images_of(arguments.data, arguments.images)),
        "8 bits": (arguments.grey, grey, grey_images(arguments.data, arguments.images)),
    }
    results: dict[str, JsonObject] = {}
    for name, (run, pixels, images) in cases.items():
        model = model_of(run, pixels)
        results[name] = {
            "chosen_tile": ArrayCodec(run).default_tile(MANY, BLOCK) if run else None,
            "coding": [coding(model, images, tile, arguments.rounds) for tile in TILES],
            "sampling": [sampling(model, count, arguments.rounds) for count in BATCHES],
        }
    report("pixel_coding", results, arguments.out)


if __name__ == "__main__":
    main()
