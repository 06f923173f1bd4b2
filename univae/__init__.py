"""UniVAE: one Transformer as encoder and decoder of a text VAE, and the parts it is made of."""
