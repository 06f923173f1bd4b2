r"""The von Mises-Fisher distribution on the unit sphere.

With a fixed concentration, the KL divergence of a von Mises-Fisher posterior from the uniform prior
is a constant, so it cannot vanish.

References:
    Hyperspherical Variational Auto-Encoders (Davidson et al., 2018),
    https://arxiv.org/abs/1804.00891
"""

from typing import ClassVar

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl
from torch.nn.functional import normalize
from torch.types import _size

from univae.devices import any_false
from univae.dtypes import as_floating, at_least_float32
from univae.errors import InputError
from univae.latent.bessel import deficit, divergence, log_uniform, mean_length, on_host, surplus
from univae.latent.polar_angle import polar_angle
from univae.latent.sphere import SMALLEST_DIM, HypersphericalUniform, UnitVector

__all__ = ["HypersphericalUniform", "VonMisesFisher"]


class VonMisesFisher(Distribution):
    r"""The von Mises-Fisher distribution of unit vectors around a mean direction m.

    Its density is :math:`C_d(\kappa) \exp(\kappa\, m \cdot z)`.

    .. math:: z = \cos\theta\, m + \sin\theta\, \nu,
              \qquad p(\theta) \propto e^{\kappa \cos\theta} \sin^{d-2}\theta,
              \qquad \nu \perp m \text{ uniform}

    A sample is a differentiable function of :math:`m`, and of :math:`\kappa` by implicit
    reparametrisation. The concentration, a number or a tensor, broadcasts against the batch; each
    of its values costs one grid. Directions in half precision are converted to float32.

    >>> from torch.distributions import kl_divergence
    >>> north = torch.eye(16)[0]
    >>> kl_divergence(VonMisesFisher(north, 32.0), HypersphericalUniform(16))
    tensor(7.5821)
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "mean_direction": UnitVector(),
        "concentration": constraints.nonnegative,
    }
    support = UnitVector()
    has_rsample = True

    def __init__(
        self,
        mean_direction: Real[Tensor, "*any d"],
        concentration: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        mean_direction = as_floating(mean_direction)
        if isinstance(concentration, Tensor) and concentration.is_floating_point():
            kappa = concentration
        else:
            kappa = torch.as_tensor(concentration, dtype=torch.float64)
        validate = Distribution._validate_args if validate_args is None else validate_args
        if validate:
            _check(mean_direction, kappa)
        m = at_least_float32(mean_direction)
        if m.dtype != mean_direction.dtype:  # half precision rounds the length
            m = normalize(m, dim=-1)
        batch = torch.broadcast_shapes(m.shape[:-1], kappa.shape)
        self.mean_direction = m.expand(*batch, -1)
        self.concentration = kappa
        super().__init__(batch, m.shape[-1:], validate_args=False)
        self._validate_args = validate

    def rsample(self, sample_shape: _size = ()) -> Float[Tensor, "*shape d"]:
        """Draw unit vectors, differentiable in the mean direction and the concentration."""
        shape = self._extended_shape(sample_shape)
        m = self.mean_direction
        uniforms = torch.rand(shape[:-1], dtype=torch.float64, device=m.device)
        return self.from_noise(uniforms, torch.randn(shape, dtype=m.dtype, device=m.device))

    def from_noise(
        self, uniforms: Float[Tensor, "*shape"], normals: Float[Tensor, "*shape d"]
    ) -> Float[Tensor, "*shape d"]:
        r"""Map noise to a sample, with :math:`\theta = F^{-1}(u)`.

        :math:`\nu` is the direction of :math:`\epsilon` orthogonal to :math:`m`. The shape of
        ``uniforms`` ends in the batch shape. A rotation of :math:`m` and :math:`\epsilon` rotates
        the sample.
        """
        m = self.mean_direction
        theta = polar_angle(self.concentration, uniforms, self.event_shape[0])
        nu = normals.to(m.dtype)
        for _ in range(2):  # where eps and m are nearly parallel, one projection leaves an error
            nu = normalize(nu - (nu * m).sum(-1, keepdim=True) * m, dim=-1)
        cos = theta.cos().to(m.dtype).unsqueeze(-1)
        sin = theta.sin().to(m.dtype).unsqueeze(-1)
        return cos * m + sin * nu

    def log_prob(self, value: Real[Tensor, "*shape d"]) -> Float[Tensor, "*result"]:
        r"""Return the log-density in nats.

        It is computed as :math:`\log C_d(\kappa) + \kappa - \kappa \|z - m\|^2 / 2`, which float32
        rounds least near :math:`m`.
        """
        if self._validate_args:
            self._validate_sample(value)
        kappa = on_host(self.concentration)
        dim = self.event_shape[0]
        m = self.mean_direction
        peak = log_uniform(dim) - surplus(kappa, dim)
        return peak.to(m) - kappa.to(m) * (value - m).square().sum(-1) / 2

    def entropy(self) -> Float[Tensor, "*batch"]:
        """Return the entropy in nats."""
        return -log_uniform(self.event_shape[0]) - _divergence_from_uniform(self)

    @property
    def mean(self) -> Float[Tensor, "*batch d"]:
        r"""The mean :math:`A_d(\kappa)\, m`."""
        length = mean_length(on_host(self.concentration), self.event_shape[0])
        return length.to(self.mean_direction).unsqueeze(-1) * self.mean_direction

    @property
    def mode(self) -> Float[Tensor, "*batch d"]:
        """The mean direction."""
        return self.mean_direction

    def expand(self, batch_shape: _size, _instance: object = None) -> "VonMisesFisher":
        """Return the distribution with another batch shape; the concentration is not copied."""
        new = VonMisesFisher(
            self.mean_direction.expand(*batch_shape, -1), self.concentration, validate_args=False
        )
        new._validate_args = self._validate_args
        return new


def _kl_from_uniform(p: VonMisesFisher, q: HypersphericalUniform) -> Float[Tensor, "*batch"]:
    _check_same_space(p, q)
    return _divergence_from_uniform(p).expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


def _kl_between(p: VonMisesFisher, q: VonMisesFisher) -> Float[Tensor, "*batch"]:
    r"""Return the divergence in nats.

    .. math:: L(\kappa') - L(\kappa) + A(\kappa) (\kappa - \kappa' + \kappa' \|m - m'\|^2 / 2)

    The first terms are computed from :math:`L(\kappa) - \kappa` and :math:`1 - A(\kappa)`, which
    lose no digits at large concentrations.
    """
    _check_same_space(p, q)
    kappa = on_host(p.concentration)
    other_kappa = on_host(q.concentration)
    dim = p.event_shape[0]
    m = p.mean_direction
    surplus_change = surplus(other_kappa, dim) - surplus(kappa, dim)
    radial = surplus_change - deficit(kappa, dim) * (kappa - other_kappa)
    rate = (mean_length(kappa, dim) * other_kappa).to(m)
    return radial.to(m) + rate * (m - q.mean_direction).square().sum(-1) / 2


register_kl(VonMisesFisher, HypersphericalUniform)(_kl_from_uniform)
register_kl(VonMisesFisher, VonMisesFisher)(_kl_between)


def _divergence_from_uniform(p: VonMisesFisher) -> Float[Tensor, "*batch"]:
    r"""Return :math:`KL(p \,\|\, U) = \kappa A_d(\kappa) - L_d(\kappa)` in nats."""
    kappa = on_host(p.concentration)
    dim = p.event_shape[0]
    return divergence(kappa, dim).to(p.mean_direction).expand(p.batch_shape)


def _check(mean_direction: Tensor, kappa: Tensor) -> None:
    if any_false(UnitVector().check(mean_direction)):
        norms = torch.linalg.vector_norm(at_least_float32(mean_direction), dim=-1)
        raise InputError(
            f"VonMisesFisher: mean_direction must hold unit vectors; got norms in "
            f"[{norms.min():.4g}, {norms.max():.4g}]; divide by the norm first"
        )
    if mean_direction.shape[-1] < SMALLEST_DIM:
        raise InputError(
            f"VonMisesFisher: needs at least 2 dimensions; got {mean_direction.shape[-1]}"
        )
    if any_false((kappa >= 0) & kappa.isfinite()):
        raise InputError(
            f"VonMisesFisher: concentration must be finite and not negative; got values in "
            f"[{kappa.min():.4g}, {kappa.max():.4g}]; a softplus keeps it so"
        )


def _check_same_space(p: Distribution, q: Distribution) -> None:
    if p.event_shape != q.event_shape:
        raise InputError(
            f"kl_divergence: both distributions must have one event shape; got event shapes "
            f"{tuple(p.event_shape)} and {tuple(q.event_shape)}; give the prior "
            f"dim={p.event_shape[0]}"
        )
