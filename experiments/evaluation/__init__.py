"""Measures of latent-variable models: bounds, scores, file sizes."""
