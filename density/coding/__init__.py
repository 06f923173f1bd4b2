"""Lossless compression with latent-variable models: bits-back coding on one entropy coder."""
