"""The samples that each proposal needs for the accuracy of 256 plain ones, on a VAE of digits.

Errors are differences from an estimate of 200,000 samples; their root mean square is over held-out
images and repetitions. The K of equal accuracy is interpolated linearly in log K and log error
between measured K; its interval is a bootstrap over images.

``python -m experiments.benchmarks.sampling_efficiency``
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import density
from density.estimation.proposals import Posterior, Proposal, Sobol, StudentT, Widened
from density.trained import TrainedDensity
from experiments import train_density
from experiments.benchmarks.harness import report
from univae.checkpoint import JsonObject

BAR = 80  # samples of BAR_PROPOSAL for the error of PLAIN plain samples
ELBO_SAMPLES = 2000
BAR_PROPOSAL = "sobol, widened 1.2"
PLAIN = 256  # samples of the plain proposal
PLAIN_PROPOSAL = "posterior"
SIZES = (16, 32, 48, 64, 80, 96, 128, 192, 256)
PROPOSALS: Mapping[str, Proposal] = {
    "posterior": Posterior(),
    "widened": Widened(1.2),
    "student": StudentT(8.0),
    "sobol": Sobol(Widened(1.0), replicates=1),
    "sobol, widened 1.1": Sobol(Widened(1.1), replicates=1),
    "sobol, widened 1.2": Sobol(Widened(1.2), replicates=1),
}


def train_model(steps: int) -> tuple[density.LatentModel, Tensor]:
    """Train a VAE with 8 latents on digits; return it with 100 held-out digits.

    Training pixels are drawn black or white at every visit.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = train_density.Config.of(
            data="digits",
            out=Path(folder) / "run",
            latents=(8,),
            hidden=(128, 128),
            binarisation="dynamic",
            batch_size=50,
            steps=steps,
            lr=2e-3,
            held_out=0.2,
            validation_data=100,
            threads=1,
            checkpoint_every=0,
            validate_every=0,
        )
        train_density.train(config)
        return TrainedDensity.open(config.out, "cpu", "last").model, train_density.held_out_data(
            config
        )


def squared_errors(
    model: density.LatentModel, x: Tensor, truth: Tensor, proposal: Proposal, repeats: int
) -> Tensor:
    """Return the mean squared errors over repetitions, (sizes, images)."""
    rows = []
    for size in SIZES:
        estimates = []
        for _ in range(repeats):
            log_w = density.log_weights(model, x, size, proposal=proposal)
            estimates.append(density.log_likelihood(log_w))
        rows.append((torch.stack(estimates) - truth).square().mean(0))
    return torch.stack(rows)


def samples_needed(rmse: np.ndarray, target: float) -> float:
    """Return the K at which a curve crosses the target, limited to the measured range."""
    ascending_rmse = np.log(rmse[::-1])
    log_sizes = np.log(SIZES)[::-1]
    return float(np.exp(np.interp(np.log(target), ascending_rmse, log_sizes)))


def table(squares: Mapping[str, Tensor], resamples: int = 1000) -> list[JsonObject]:
    """Return a row for each proposal: samples needed, their 90% interval, and the curve.

    The interval is that of the quantiles 0.05 and 0.95 over resampled images.
    """
    generator = np.random.default_rng(0)
    images = squares[PLAIN_PROPOSAL].shape[1]
    selections = [np.arange(images), *generator.integers(images, size=(resamples, images))]
    needed: dict[str, list[float]] = {name: [] for name in squares}
    for selection in selections:
        curves = {}
        for name, errors in squares.items():
            curves[name] = errors.numpy()[:, selection].mean(1) ** 0.5
        target = curves[PLAIN_PROPOSAL][SIZES.index(PLAIN)]
        for name, curve in curves.items():
            needed[name].append(samples_needed(curve, target))

    rows = []
    for name, errors in squares.items():
        samples, *resampled = needed[name]  # of all images, then of the bootstrap
        rmse = errors.mean(1).sqrt().tolist()
        row = {
            "proposal": name,
            "samples_needed": samples,
            "interval_90": np.quantile(resampled, [0.05, 0.95]).tolist(),
            "ratio": PLAIN / samples,
            "rmse_nats": dict(zip(SIZES, rmse, strict=True)),
        }
        rows.append(row)
    return rows


@torch.no_grad()
def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4000, help="training steps")
    parser.add_argument(
        "--reference", type=int, default=200_000, help="importance samples of the reference"
    )
    parser.add_argument("--repeats", type=int, default=32, help="estimates of each image")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.enable_grad():
        model, x = train_model(arguments.steps)

    reference = density.estimate(model, x, arguments.reference, proposal=Widened(1.1))
    squares = {}
    for name, proposal in PROPOSALS.items():
        truth = reference.log_likelihood
        squares[name] = squared_errors(model, x, truth, proposal, arguments.repeats)
    rows = table(squares)
    elbo = density.estimate(model, x, ELBO_SAMPLES).elbo
    results = {
        "bar": {"proposal": BAR_PROPOSAL, "samples_needed": BAR, "for_the_error_of": PLAIN},
        "reference": {"samples": arguments.reference, **_summary(reference, elbo)},
        "proposals": rows,
    }
    report("sampling_efficiency", results, arguments.out)


def _summary(reference: density.Estimate, elbo: Tensor) -> JsonObject:
    return {
        "log_likelihood_nats": reference.log_likelihood.mean().item(),
        "gap_to_elbo_nats": (reference.log_likelihood - elbo).mean().item(),
        "largest_standard_error": reference.standard_error.max().item(),
        "largest_khat": reference.khat.max().item(),
    }


if __name__ == "__main__":
    main()
