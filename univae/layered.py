r"""A latent per layer: distributions that climb the stack, and the heads between a layer's row 0 and its latent.

The stack turns row 0 of latent layer :math:`l` into a distribution of :math:`z_l`, and :math:`z_l` back into row 0,
so that :math:`q(z \mid x) = \prod_l q(z_l \mid z_{<l}, x)`. Fed no text, the same climb is a prior.

References:
    UniVAE (Su, 2021), https://kexue.fm/archives/8475
    BN-VAE: A Batch Normalized Inference Network Keeps the KL Vanishing Away (Zhu et al., 2020),
    https://arxiv.org/abs/2004.12585
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Normal

from univae.errors import InputError
from univae.latent import VonMisesFisher, diagonal_gaussian

__all__ = ["Choose", "Climb", "GaussianHead", "Layered", "StreamNorm", "VonMisesFisherHead"]

Choose: TypeAlias = Callable[[int, Distribution], Tensor]  # (layer, p(z_l | z_<l, ...)) -> z_l
Climb: TypeAlias = Callable[
    [Size, Choose], Sequence[Distribution]
]  # (leading shape, choose) -> one conditional a layer


class GaussianHead(nn.Module):
    r"""Row 0 to :math:`\mathcal{N}(\mu, \mathrm{diag}\, \sigma^2)`, at the start close to the standard normal.

    With ``gamma`` > 0 the means are batch-normalised with a fixed scale :math:`\gamma` and a learned shift
    :math:`\beta`, so that over the data :math:`\mathbb{E}\, \mathrm{KL} \ge \frac{d}{2} (\gamma^2 + \beta^2)`;
    batches of one text train too, see :class:`StreamNorm`.
    """

    def __init__(self, width: int, latent_width: int, gamma: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * latent_width)
        self.gamma = gamma
        self.shift = nn.Parameter(torch.zeros(latent_width)) if gamma else None
        # The usual eps would be a way out: an encoder that shrinks its means below it shrinks their KL as well.
        self.norm = StreamNorm(latent_width, eps=1e-12, affine=False) if gamma else None

    def forward(self, row: Float[Tensor, "*batch width"]) -> Distribution:
        mean, raw = _wide(self.linear(row)).chunk(2, -1)
        if self.norm is not None:
            mean = self.gamma * self.norm(mean.flatten(0, -2)).view_as(mean) + self.shift
        scale = F.softplus(raw + math.log(math.e - 1)).clamp_min(1e-6)  # softplus underflows to 0
        return diagonal_gaussian(mean, scale)


class StreamNorm(nn.BatchNorm1d):
    r"""Batch normalisation (rows, d) that also trains on one row, which it sees as the newest of a stream.

    Two rows and more are normalised with their own statistics, as in ``nn.BatchNorm1d``. One row :math:`x` has no
    variance of its own. It joins the moving statistics :math:`m, v` with their momentum :math:`a`, and is normalised
    with what results, where the past is constant:

    .. math::

        m' = m + a (x - m), \qquad v' = (1 - a) (v + a (x - m)^2), \qquad y = \frac{x - m'}{\sqrt{v' + \epsilon}}

    So :math:`|y| \le \sqrt{(1 - a) / a}`, which is 3 at the usual momentum of 0.1, whatever the row is, as a batch of
    n rows has :math:`|y| \le \sqrt{n - 1}`. Before any update :math:`m = 0` and :math:`v = 1`. Nothing is drawn and
    the statistics are buffers, so that a resumed run repeats bit for bit.

    References:
        Updating mean and variance estimates: an improved method (West, 1979), https://doi.org/10.1145/359146.359153
    """

    def forward(self, input: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        if self.training and len(input) == 1:
            return self._newest(input)
        return super().forward(input)

    def _newest(self, row: Float[Tensor, "1 d"]) -> Float[Tensor, "1 d"]:
        momentum = self.momentum
        assert momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        change = row - self.running_mean
        mean = self.running_mean + momentum * change
        variance = (1 - momentum) * (self.running_var + momentum * change.square())
        normalised = (row - mean) / (variance + self.eps).sqrt()
        with torch.no_grad():
            self.running_mean.copy_(mean[0])
            self.running_var.copy_(variance[0])
            self.num_batches_tracked.add_(1)

        return normalised


class VonMisesFisherHead(nn.Module):
    r"""Row 0 to :math:`\mathrm{vMF}(W c / \lVert W c \rVert, \kappa)`, one :math:`\kappa` a layer, fixed or learned."""

    def __init__(self, width: int, latent_width: int, kappa: float, learned: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, latent_width)
        self.log_kappa = nn.Parameter(torch.tensor(math.log(kappa))) if learned else None
        self.kappa = kappa

    def forward(self, row: Float[Tensor, "*batch width"]) -> Distribution:
        direction = F.normalize(_wide(self.linear(row)), dim=-1)
        # A fixed kappa stays a number on the host, where its sampling grid is kept from call to call.
        return VonMisesFisher(direction, self.kappa if self.log_kappa is None else self.log_kappa.exp())


def _wide(x: Tensor) -> Tensor:
    """Parameters of a distribution are float32 at least, also under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Layered(Distribution):
    r"""The joint distribution of one latent a layer, :math:`p(z) = \prod_l p(z_l \mid z_{<l})`.

    ``climb(lead, choose)`` walks the layers for latents of leading shape ``lead``, asks ``choose`` for each
    :math:`z_l` and returns the conditionals it met. Sampling climbs once; :meth:`log_prob` climbs with z given.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, climb: Climb, batch_shape: Size, event_shape: Size) -> None:
        self.climb = climb
        super().__init__(batch_shape, event_shape, validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Float[Tensor, "*sample layers d"]:
        return self.rsample_with_log_prob(sample_shape)[0]

    def rsample_with_log_prob(
        self, sample_shape: Sequence[int] = Size()
    ) -> tuple[Float[Tensor, "*sample layers d"], Float[Tensor, "*sample"]]:
        """Draws z and returns it with its log-density, from one climb."""
        z, conditionals = self.walk(Size(sample_shape) + self.batch_shape, lambda layer, p: p.rsample())
        return z, self._sum(conditionals, z)

    def from_noise(
        self, eps: Float[Tensor, "*sample layers d"]
    ) -> tuple[Float[Tensor, "*sample layers d"], Float[Tensor, "*sample"]]:
        r"""Maps standard normal noise to :math:`z_l = \mu_l(z_{<l}) + \sigma_l(z_{<l})\, \epsilon_l`, with log-density.

        Raises:
            InputError: a layer is not Gaussian, so that no normal noise makes its draws.
        """

        def choose(layer: int, p: Distribution) -> Tensor:
            if not isinstance(getattr(p, "base_dist", None), Normal):
                what = f"maps normal noise through Gaussian layers; layer {layer} is {type(p).__name__}"
                raise InputError(f"from_noise: {what}; draw from the posterior itself, or mix it with the prior")
            return p.mean + p.stddev * eps[..., layer, :]

        z, conditionals = self.walk(eps.shape[:-2], choose)
        return z, self._sum(conditionals, z)

    def log_prob(self, value: Float[Tensor, "*sample layers d"]) -> Float[Tensor, "*sample"]:
        return self._sum(self.conditionals(value), value)

    def conditionals(self, z: Float[Tensor, "*sample layers d"]) -> Sequence[Distribution]:
        r"""Returns :math:`p(z_l \mid z_{<l})` for every layer, given z."""
        return self.walk(z.shape[:-2], lambda layer, p: z[..., layer, :])[1]

    def modes(self) -> Float[Tensor, "*batch layers d"]:
        """Each layer's mode, computed from the modes before it: a code, but not a draw and not the mean of draws."""
        return self.walk(self.batch_shape, lambda layer, p: p.mode)[0]

    def resample(
        self, z: Float[Tensor, "*sample layers d"], layers: Collection[int]
    ) -> Float[Tensor, "*sample layers d"]:
        """Draws the named layers anew, each given the layers before it, and keeps the others as they are."""
        return self.walk(z.shape[:-2], lambda layer, p: p.sample() if layer in layers else z[..., layer, :])[0]

    def walk(self, lead: Size, choose: Choose) -> tuple[Tensor, Sequence[Distribution]]:
        """Climbs once for latents of shape (*lead, layers, d), asking ``choose`` for each; returns z and the laws."""
        chosen: list[Tensor] = []

        def note(layer: int, p: Distribution) -> Tensor:
            chosen.append(choose(layer, p))
            return chosen[-1]

        conditionals = self.climb(lead, note)
        return torch.stack(chosen, -2), conditionals

    @staticmethod
    def _sum(conditionals: Sequence[Distribution], z: Tensor) -> Tensor:
        return torch.stack([p.log_prob(z[..., layer, :]) for layer, p in enumerate(conditionals)]).sum(0)
