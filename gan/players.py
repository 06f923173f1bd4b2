"""A generator and its critic as one module, built from the ``model.json`` of a run."""

from torch import nn

from gan.networks.registry import build
from gan.normalization.spectral import SPECTRAL_NORMS
from univae.checkpoint import JsonObject
from univae.registry import lookup

__all__ = ["Players"]


class Players(nn.Module):
    """A generator and its critic.

    Attributes:
        config: ``generator`` and ``critic``, each a configuration for :func:`gan.networks.build`,
            and ``spectral``, the name of a row of :data:`gan.normalization.SPECTRAL_NORMS`.
    """

    def __init__(self, config: JsonObject) -> None:
        super().__init__()
        self.config = dict(config)
        self.generator = build(config["generator"])
        self.critic = build(config["critic"])
        spectral_norm = lookup(SPECTRAL_NORMS, config["spectral"], "spectral")
        spectral_norm.apply(self.critic, self.critic.shape, conditional=self.critic.classes > 0)
