"""Likelihoods of latent-variable models, estimated by importance sampling and reported with their evidence."""
