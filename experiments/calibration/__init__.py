"""The last phase of the training of a VAE: its posterior is fitted to the finished model."""
