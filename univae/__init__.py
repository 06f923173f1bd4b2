"""UniVAE, a text VAE whose encoder and decoder are one Transformer, and its components."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "Elbo",
    "RoFormerSim",
    "RoFormerSimConfig",
    "UniVAE",
    "UniVAEConfig",
    "__version__",
    "attention",
    "contrastive",
    "latent",
    "load",
    "optim",
    "text",
    "train_density",
    "train_gan",
    "train_similar",
    "train_text",
]

if TYPE_CHECKING:
    from univae import attention, contrastive, latent, optim, text
    from univae import decoding as decoding
    from univae import sentence as sentence
    from univae import vae as vae
    from univae._version import __version__
    from univae.kinds import load
    from univae.sentence.model import RoFormerSim, RoFormerSimConfig
    from univae.train import train_density, train_gan, train_similar, train_text
    from univae.vae.model import Elbo, UniVAE, UniVAEConfig
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "kinds": ["load"],
            "_version": ["__version__"],
            "sentence.model": ["RoFormerSim", "RoFormerSimConfig"],
            "train": ["train_density", "train_gan", "train_similar", "train_text"],
            "vae.model": ["Elbo", "UniVAE", "UniVAEConfig"],
        },
        submodules=[
            "attention",
            "contrastive",
            "decoding",
            "latent",
            "optim",
            "sentence",
            "text",
            "vae",
        ],
    )
