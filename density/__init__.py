"""Likelihoods of latent-variable models, estimated by importance sampling and reported with their evidence."""

from density.importance import Estimate, estimate, log_likelihood, log_weights
from density.model import LatentModel

__all__ = ["Estimate", "LatentModel", "estimate", "log_likelihood", "log_weights"]
