"""Estimates from samples: likelihoods and their diagnostics, use of the latent, regret."""
