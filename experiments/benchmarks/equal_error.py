"""Processor time of likelihoods for the same standard error, of images and of texts.

Images: pythae 0.1.2's ``get_nll`` (batches of 100 samples, as by default) and estimates of this
library, on one MLP VAE with the same weights. Texts: plain sampling, which repeats a text for each
sample, and estimates whose samples share the layers below the latents, on a UniVAE; its posterior
is that of training, or calibrated, which leaves the likelihood as it is.

Errors are root mean squares over data of the deviation between repetitions with other seeds; times
at the same error are interpolated linearly in both logarithms. Differences from a reference of many
samples show the bias that repetitions do not.

``pip install pythae==0.1.2``, then ``python -m experiments.benchmarks.equal_error
--images train-images-idx3-ubyte.gz --texts captions.txt --runs runs/equal-error``
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import density
from experiments.benchmarks import equal_error_images, equal_error_texts
from experiments.benchmarks.equal_error_curves import (
    REFERENCE,
    Contestant,
    measured,
    ratios,
)
from experiments.benchmarks.harness import report
from univae.checkpoint import JsonObject, read_json
from univae.run_folder import RunFolder
from univae.text.special import PAD

BARS = {"images": 10.0, "texts": 5.0}
IMAGE_BASELINES = ("pythae", "posterior")
TEXT_BASELINES = ("repeated", "repeated, calibrated")


def images(run: Path, arguments: argparse.Namespace) -> JsonObject:
    """Measure pythae and the estimators on held-out images."""
    model, x = equal_error_images.image_run(arguments.images, run, arguments.image_steps)
    x = x[: arguments.image_count]
    with torch.no_grad():
        reference = density.estimate(model, x, arguments.image_reference, proposal=REFERENCE)
        contestants = equal_error_images.contestants(model, x)
        table = _table(contestants, arguments.repeats, reference, 0.0, IMAGE_BASELINES)
    return {
        "bar": BARS["images"],
        "images": len(x),
        "reference_samples": arguments.image_reference,
        **table,
    }


def texts(run: Path, arguments: argparse.Namespace) -> JsonObject:
    """Measure plain sampling and the estimators on held-out texts."""
    setting = equal_error_texts.text_run(
        arguments.texts, run, arguments.text_steps, arguments.text_count
    )
    calibration = read_json(RunFolder(run, {}).calibration.path / "DONE")["calibration"]
    with torch.no_grad():
        reference = equal_error_texts.shared(
            setting.calibrated, setting.batches, REFERENCE, arguments.text_reference
        )
        contestants = equal_error_texts.contestants(setting)
        table = _table(
            contestants, arguments.repeats, reference, calibration["seconds"], TEXT_BASELINES
        )
    tokens = [(batch.ids != PAD).sum().item() for batch in setting.batches]
    return {
        "bar": BARS["texts"],
        "texts": len(reference.khat),
        "tokens": sum(tokens),
        "reference_samples": arguments.text_reference,
        "calibration": calibration,
        **table,
    }


def _table(
    contestants: Mapping[str, Contestant],
    repeats: int,
    reference: density.Estimate,
    fixed: float,
    baselines: Sequence[str],
) -> JsonObject:
    """Return the curves, and the ratios of all others to each of the baselines."""
    curves = measured(contestants, repeats)
    truth: np.ndarray = reference.log_likelihood.numpy()
    by_baseline: JsonObject = {}
    for baseline in baselines:
        by_baseline[baseline] = {
            name: ratios(curves[baseline], curves[name], truth, fixed)
            for name in contestants
            if name not in baselines
        }
    return {
        "reference": {
            "log_likelihood_nats": truth.mean(),
            "largest_standard_error": reference.standard_error.max().item(),
            "largest_khat": reference.khat.max().item(),
        },
        "curves": {name: curve.rows(truth) for name, curve in curves.items()},
        "time_of_baseline_over_time_at_its_error": by_baseline,
    }


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", help="images 28x28: a file, or the built-in glyphs")
    parser.add_argument("--texts", help="a file with a text a line")
    parser.add_argument(
        "--runs", type=Path, help="folder where the trained runs are kept, and used again"
    )
    parser.add_argument("--image-steps", type=int, default=10_000, help="training steps")
    parser.add_argument("--text-steps", type=int, default=800, help="training steps")
    parser.add_argument("--image-count", type=int, default=32, help="images that are scored")
    parser.add_argument("--text-count", type=int, default=12, help="texts that are scored")
    parser.add_argument("--repeats", type=int, default=10, help="estimates of each datum")
    parser.add_argument(
        "--image-reference", type=int, default=100_000, help="samples of the reference of an image"
    )
    parser.add_argument(
        "--text-reference", type=int, default=4096, help="samples of the reference of a text"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.images and not arguments.texts:
        parser.error("nothing to measure; give --images, --texts or both")
    if arguments.images and find_spec("pythae") is None:
        parser.error("pythae is missing; pip install pythae==0.1.2")

    results: JsonObject = {"repeats": arguments.repeats}
    with tempfile.TemporaryDirectory() as scratch:
        runs = arguments.runs or Path(scratch)
        if arguments.images:
            results["images"] = images(runs / "images", arguments)
        if arguments.texts:
            results["texts"] = texts(runs / "texts", arguments)
    report("equal_error", results, arguments.out)


if __name__ == "__main__":
    main()
