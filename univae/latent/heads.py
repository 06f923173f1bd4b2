r"""Networks from row 0 of a latent layer to the distribution of its latent, one per family.

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

from univae.dtypes import at_least_float32
from univae.latent.gaussian import diagonal_gaussian
from univae.latent.spherical import VonMisesFisher
from univae.latent.stream_norm import StreamNorm

__all__ = ["GaussianHead", "VonMisesFisherHead"]

SMALLEST_SCALE = 1e-6  # softplus underflows to 0
UNIT_SOFTPLUS = math.log(math.e - 1)  # where softplus is 1

# With the usual 1e-5 an encoder could shrink its means below eps, and so their KL to 0.
NORM_EPS = 1e-12


class GaussianHead(nn.Module):
    r"""Maps rows to :math:`\mathcal{N}(\mu, \mathrm{diag}\, \sigma^2)`, initially near standard.

    With ``gamma`` > 0 the means are batch-normalised with a fixed scale :math:`\gamma` and a
    learned shift :math:`\beta`, so that over the training set :math:`\mathbb{E}\, \mathrm{KL} \ge
    \frac{d}{2} (\gamma^2 + \beta^2)`. Batches of one text train too, see :class:`StreamNorm`.
    """

    def __init__(self, width: int, latent_width: int, gamma: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * latent_width)
        self.gamma = gamma
        self.shift = nn.Parameter(torch.zeros(latent_width)) if gamma else None
        self.norm = StreamNorm(latent_width, eps=NORM_EPS, affine=False) if gamma else None

    def forward(self, row: Float[Tensor, "*batch width"]) -> Distribution:
        """Return the diagonal Gaussian of each row."""
        mean, raw_scale = at_least_float32(self.linear(row)).chunk(2, -1)
        if self.norm is not None:
            mean = self.gamma * self.norm(mean.flatten(0, -2)).view_as(mean) + self.shift
        scale = F.softplus(raw_scale + UNIT_SOFTPLUS).clamp_min(SMALLEST_SCALE)
        return diagonal_gaussian(mean, scale)


class VonMisesFisherHead(nn.Module):
    r"""Maps rows to :math:`\mathrm{vMF}(W c / \lVert W c \rVert, \kappa)`.

    The concentration :math:`\kappa` is one number a layer, fixed or, with ``learned``, a weight
    that starts at ``kappa``.
    """

    def __init__(self, width: int, latent_width: int, kappa: float, *, learned: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, latent_width)
        self.log_kappa = nn.Parameter(torch.tensor(math.log(kappa))) if learned else None
        self.kappa = kappa

    def forward(self, row: Float[Tensor, "*batch width"]) -> Distribution:
        """Return the von Mises-Fisher distribution of each row."""
        direction = F.normalize(at_least_float32(self.linear(row)), dim=-1)
        # A fixed kappa is a Python number, whose sampling grid is cached from call to call.
        kappa = self.kappa if self.log_kappa is None else at_least_float32(self.log_kappa).exp()
        return VonMisesFisher(direction, kappa)
