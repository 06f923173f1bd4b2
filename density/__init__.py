"""Likelihoods of latent-variable models: estimation, compression, training objectives."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "Adaptive",
    "Annealed",
    "Auto",
    "AutoEstimate",
    "Defensive",
    "DensityEstimator",
    "Estimate",
    "Jackknife",
    "LatentModel",
    "Newton",
    "Posterior",
    "Proposal",
    "Refined",
    "Sandwich",
    "Scores",
    "Sobol",
    "StudentT",
    "Widened",
    "annealed",
    "bootstrap_standard_error",
    "ciwae",
    "compress",
    "decompress",
    "dreg",
    "elbo",
    "estimate",
    "estimate_auto",
    "estimate_until",
    "from_pyro",
    "iwae",
    "jackknife",
    "likelihood_regret",
    "log_likelihood",
    "log_weights",
    "miwae",
    "multiply_iwae",
    "sandwich",
    "score",
    "stl",
]

if TYPE_CHECKING:
    from density import coding as coding
    from density import estimation as estimation
    from density import images as images
    from density import likelihoods as likelihoods
    from density.coding.compress import compress, decompress
    from density.estimation.adaptive import Adaptive, estimate_until
    from density.estimation.annealed import Annealed, Sandwich, annealed, sandwich
    from density.estimation.auto import AutoEstimate, estimate_auto
    from density.estimation.auto_proposal import Auto
    from density.estimation.importance import Estimate, estimate, log_weights
    from density.estimation.newton import Newton
    from density.estimation.proposals import (
        Defensive,
        Posterior,
        Proposal,
        Sobol,
        StudentT,
        Widened,
    )
    from density.estimation.refined import Refined
    from density.estimation.regret import likelihood_regret
    from density.estimation.resampling import Jackknife, bootstrap_standard_error, jackknife
    from density.estimator import DensityEstimator
    from density.log_likelihoods import log_likelihood
    from density.model import LatentModel
    from density.objectives import ciwae, dreg, elbo, iwae, miwae, multiply_iwae, stl
    from density.pyro_model import from_pyro
    from density.scores import Scores, score
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "coding.compress": ["compress", "decompress"],
            "estimation.adaptive": ["Adaptive", "estimate_until"],
            "estimation.annealed": ["Annealed", "Sandwich", "annealed", "sandwich"],
            "estimation.auto": ["AutoEstimate", "estimate_auto"],
            "estimation.auto_proposal": ["Auto"],
            "estimation.importance": ["Estimate", "estimate", "log_weights"],
            "estimation.newton": ["Newton"],
            "estimator": ["DensityEstimator"],
            "log_likelihoods": ["log_likelihood"],
            "estimation.proposals": [
                "Defensive",
                "Posterior",
                "Proposal",
                "Sobol",
                "StudentT",
                "Widened",
            ],
            "estimation.refined": ["Refined"],
            "estimation.regret": ["likelihood_regret"],
            "estimation.resampling": ["Jackknife", "bootstrap_standard_error", "jackknife"],
            "model": ["LatentModel"],
            "objectives": ["ciwae", "dreg", "elbo", "iwae", "miwae", "multiply_iwae", "stl"],
            "pyro_model": ["from_pyro"],
            "scores": ["Scores", "score"],
        },
        submodules=["coding", "estimation", "images", "likelihoods"],
    )
