"""Wasserstein GANs whose critic is gradient-normalised."""
