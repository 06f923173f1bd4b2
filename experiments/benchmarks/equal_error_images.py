"""The MLP VAE of the benchmark of equal errors, and the estimators of its likelihood."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import density
from density.estimation.proposals import Proposal
from density.images.mlp import MLPVAE
from density.trained import TrainedDensity
from experiments import train_density
from experiments.benchmarks.equal_error_curves import NEWTON, SOBOL, Contestant, Draw
from experiments.benchmarks.likelihood import HIDDEN, LATENT, pythae_model

__all__ = ["contestants", "image_run"]

PYTHAE_SIZES = (100, 1000, 5000)
SIZES = (16, 32, 64, 128, 256, 512, 1024)
REFINED_SIZES = (64, 256, 1024)
ONE_ROUND = density.Newton(rounds=1, particles=16, proposal=SOBOL)
REFINED = density.Refined(full=True, proposal=SOBOL)


def image_run(data: str, out: Path, steps: int) -> tuple[MLPVAE, Tensor]:
    """Return a VAE of the shape of pythae's default, trained unless ``out`` has it, and images.

    The images are held out.
    """
    config = train_density.Config.of(
        data=data,
        out=out,
        binarisation="auto",
        latents=(LATENT,),
        hidden=(HIDDEN,),
        activation="relu",
        batch_size=100,
        steps=steps,
        lr=1e-3,
        held_out=0.02,
        validation_data=200,
        threads=1,
        checkpoint_every=0,
        validate_every=0,
    )
    if not out.exists():
        train_density.train(config)
    model = TrainedDensity.open(out, "cpu").model
    assert isinstance(model, MLPVAE)
    return model, train_density.held_out_data(config)


def contestants(model: MLPVAE, x: Tensor) -> dict[str, Contestant]:
    """Return pythae, the plain posterior, Sobol sets, and fits to each image, for images ``x``."""
    pythae = pythae_model(model)

    def get_nll(samples: int) -> Draw:
        values = [float(pythae.get_nll(image, n_samples=samples)) for image in x.split(1)]
        return Draw(torch.tensor(values, dtype=torch.float64), None)

    def estimate(proposal: Proposal | None, samples: int) -> Draw:
        result = density.estimate(model, x, samples, proposal=proposal)
        return Draw(result.log_likelihood, result.standard_error)

    return {
        "pythae": Contestant(PYTHAE_SIZES, get_nll),
        "posterior": Contestant(PYTHAE_SIZES, partial(estimate, None)),
        "sobol": Contestant(SIZES, partial(estimate, SOBOL)),
        "refined": Contestant(REFINED_SIZES, partial(estimate, REFINED)),
        "newton, 1 round": Contestant(SIZES, partial(estimate, ONE_ROUND)),
        "newton": Contestant(SIZES, partial(estimate, NEWTON)),
    }
