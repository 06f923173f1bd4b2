"""The text VAE: model, likelihood, training objective, and a reference implementation."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = ["Elbo", "UniVAE", "UniVAEConfig"]

if TYPE_CHECKING:
    from univae.vae.model import Elbo, UniVAE, UniVAEConfig
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"model": ["Elbo", "UniVAE", "UniVAEConfig"]})
