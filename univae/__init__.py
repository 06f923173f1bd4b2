"""UniVAE: one Transformer as encoder and decoder of a text VAE, and the parts it is made of."""

from univae import attention, contrastive, latent, optim, text
from univae.sentence import RoFormerSim, RoFormerSimConfig
from univae.vae import Elbo, UniVAE, UniVAEConfig

__all__ = [
    "Elbo",
    "RoFormerSim",
    "RoFormerSimConfig",
    "UniVAE",
    "UniVAEConfig",
    "attention",
    "contrastive",
    "latent",
    "optim",
    "text",
]
