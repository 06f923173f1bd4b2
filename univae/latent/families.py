"""Heads that turn row 0 of a layer into the distribution of its latent, one per latent family.

References:
    BN-VAE: A Batch Normalized Inference Network Keeps the KL Vanishing Away (Zhu et al., 2020),
    https://arxiv.org/abs/2004.12585
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from univae.latent.gaussian import diagonal_gaussian
from univae.latent.hierarchy import StreamNorm
from univae.latent.spherical import VonMisesFisher

__all__ = ["GaussianHead", "VonMisesFisherHead"]


class GaussianHead(nn.Module):
    r"""Row 0 to :math:`\mathcal{N}(\mu, \mathrm{diag}\, \sigma^2)`, at the start close to the standard normal.

    With ``gamma`` > 0 the means are batch-normalised with a fixed scale :math:`\gamma` and a
    learned shift :math:`\beta`, so that over the data :math:`\mathbb{E}\, \mathrm{KL} \ge
    \frac{d}{2} (\gamma^2 + \beta^2)`; batches of one text train too, see :class:`StreamNorm`.
    """

    def __init__(self, width: int, latent_width: int, gamma: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * latent_width)
        self.gamma = gamma
        self.shift = nn.Parameter(torch.zeros(latent_width)) if gamma else None
        # The usual eps would be a way out: an encoder that shrinks its means below it shrinks their
        # KL as well.
        self.norm = StreamNorm(latent_width, eps=1e-12, affine=False) if gamma else None

    def forward(self, row: Float[Tensor, "*batch width"]) -> Distribution:
        mean, raw = _wide(self.linear(row)).chunk(2, -1)
        if self.norm is not None:
            mean = self.gamma * self.norm(mean.flatten(0, -2)).view_as(mean) + self.shift
        scale = F.softplus(raw + math.log(math.e - 1)).clamp_min(1e-6)  # softplus underflows to 0
        return diagonal_gaussian(mean, scale)


class VonMisesFisherHead(nn.Module):
    r"""Row 0 to :math:`\mathrm{vMF}(W c / \lVert W c \rVert, \kappa)`, one :math:`\kappa` a layer, fixed or learned."""

    def __init__(self, width: int, latent_width: int, kappa: float, learned: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, latent_width)
        self.log_kappa = nn.Parameter(torch.tensor(math.log(kappa))) if learned else None
        self.kappa = kappa

    def forward(self, row: Float[Tensor, "*batch width"]) -> Distribution:
        direction = F.normalize(_wide(self.linear(row)), dim=-1)
        # A fixed kappa stays a number on the host, where its sampling grid is kept from call to
        # call.
        return VonMisesFisher(
            direction, self.kappa if self.log_kappa is None else self.log_kappa.exp()
        )


def _wide(x: Tensor) -> Tensor:
    """Parameters of a distribution are float32 at least, also under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
