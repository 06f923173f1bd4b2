"""Likelihoods of latent-variable models, estimated by sampling, reported with their evidence, and trained on."""

from density.adaptive import Adaptive, estimate_until
from density.annealed import Annealed, Sandwich, annealed, sandwich
from density.importance import Estimate, estimate, log_likelihood, log_weights
from density.lossless import compress, decompress
from density.model import LatentModel
from density.objectives import ciwae, dreg, elbo, iwae, miwae, stl
from density.proposals import Defensive, Posterior, Proposal, Sobol, StudentT, Widened
from density.pyro_model import from_pyro
from density.refined import Refined
from density.regret import likelihood_regret

__all__ = [
    "Adaptive",
    "Annealed",
    "Defensive",
    "Estimate",
    "LatentModel",
    "Posterior",
    "Proposal",
    "Refined",
    "Sandwich",
    "Sobol",
    "StudentT",
    "Widened",
    "annealed",
    "ciwae",
    "compress",
    "decompress",
    "dreg",
    "elbo",
    "estimate",
    "estimate_until",
    "from_pyro",
    "iwae",
    "likelihood_regret",
    "log_likelihood",
    "log_weights",
    "miwae",
    "sandwich",
    "stl",
]
