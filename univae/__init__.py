"""UniVAE: one Transformer as encoder and decoder of a text VAE, and the parts it is made of."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "Elbo",
    "RoFormerSim",
    "RoFormerSimConfig",
    "UniVAE",
    "UniVAEConfig",
    "attention",
    "contrastive",
    "latent",
    "load",
    "optim",
    "text",
]

if TYPE_CHECKING:
    from univae import attention, contrastive, latent, optim, text
    from univae import decoding as decoding
    from univae import sentence as sentence
    from univae import vae as vae
    from univae.kinds import load
    from univae.sentence.model import RoFormerSim, RoFormerSimConfig
    from univae.vae.model import Elbo, UniVAE, UniVAEConfig
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "kinds": ["load"],
            "sentence.model": ["RoFormerSim", "RoFormerSimConfig"],
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
