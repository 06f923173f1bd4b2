"""How many samples each proposal needs for the accuracy of 256 plain ones, on a VAE trained here on digits.

The error of an estimate is against 200,000 samples; its root mean square is over held-out images
and repetitions. K where a proposal is as accurate is read off its curve (a line in both logarithms
between measured K); the interval is a bootstrap over images. ``python -m
experiments.benchmarks.sampling_efficiency``
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import density
from density.estimation.proposals import Posterior, Proposal, Sobol, StudentT, Widened
from density.trained import TrainedDensity
from experiments import train_density
from experiments.benchmarks.harness import report

BAR = 80  # samples of widened Sobol for the error of PLAIN plain ones
PLAIN = 256
SIZES = (16, 32, 48, 64, 80, 96, 128, 192, 256)
PROPOSALS: dict[str, Proposal] = {
    "posterior": Posterior(),
    "widened": Widened(1.2),
    "student": StudentT(8.0),
    "sobol": Sobol(Widened(1.0)),
    "sobol, widened 1.1": Sobol(Widened(1.1)),
    "sobol, widened 1.2": Sobol(Widened(1.2)),
}


def trained(steps: int) -> tuple[density.LatentModel, Tensor]:
    """A VAE with 8 latents on digits drawn black or white at every visit, and 100 held-out digits."""
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


def errors(
    model: density.LatentModel, x: Tensor, truth: Tensor, proposal: Proposal, repeats: int
) -> Tensor:
    """Squared errors (sizes, images), means over repetitions."""
    rows = []
    for size in SIZES:
        log_w = [density.log_weights(model, x, size, proposal=proposal) for _ in range(repeats)]
        found = torch.stack([density.log_likelihood(part) for part in log_w])
        rows.append((found - truth).square().mean(0))
    return torch.stack(rows)


def needed(rmse: np.ndarray, target: float) -> float:
    """K at which a curve crosses the target; the ends of the measured range where it does not."""
    falling = np.log(rmse[::-1])
    return float(np.exp(np.interp(np.log(target), falling, np.log(SIZES)[::-1])))


def table(squares: dict[str, Tensor], draws: int = 1000) -> list[dict[str, Any]]:
    """Samples needed, with the quantiles 0.05 and 0.95 over resampled images, and the curves."""
    generator = np.random.default_rng(0)
    images = squares["posterior"].shape[1]
    picked = [np.arange(images), *generator.integers(images, size=(draws, images))]
    found: dict[str, list[float]] = {name: [] for name in squares}
    for rows in picked:
        curves = {name: part.numpy()[:, rows].mean(1) ** 0.5 for name, part in squares.items()}
        target = curves["posterior"][SIZES.index(PLAIN)]
        for name, curve in curves.items():
            found[name].append(needed(curve, target))
    return [
        {
            "proposal": name,
            "samples_needed": found[name][0],
            "interval_90": np.quantile(found[name][1:], [0.05, 0.95]).tolist(),
            "ratio": PLAIN / found[name][0],
            "rmse_nats": dict(zip(SIZES, part.mean(1).sqrt().tolist(), strict=True)),
        }
        for name, part in squares.items()
    ]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4000, help="of training")
    parser.add_argument(
        "--reference", type=int, default=200_000, help="samples that stand for the truth"
    )
    parser.add_argument("--repeats", type=int, default=32)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with torch.enable_grad():
        model, x = trained(given.steps)
    reference = density.estimate(model, x, given.reference, proposal=Widened(1.1))
    squares = {
        name: errors(model, x, reference.log_likelihood, proposal, given.repeats)
        for name, proposal in PROPOSALS.items()
    }
    rows = table(squares)
    results = {
        "bar": {"proposal": "sobol, widened 1.2", "samples_needed": BAR, "for_the_error_of": PLAIN},
        "reference": {
            "samples": given.reference,
            "log_likelihood_nats": reference.log_likelihood.mean().item(),
            "gap_to_elbo_nats": (reference.log_likelihood - density.estimate(model, x, 2000).elbo)
            .mean()
            .item(),
            "largest_standard_error": reference.standard_error.max().item(),
            "largest_khat": reference.khat.max().item(),
        },
        "proposals": rows,
    }
    report("sampling_efficiency", results, given.out)


if __name__ == "__main__":
    main()
