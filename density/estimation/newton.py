r"""A Gaussian with a full covariance, fitted to the posterior of each datum by Newton steps.

With :math:`g(\epsilon) = \nabla_\epsilon \log p(x, T_x(\epsilon)) |T_x'(\epsilon)|` in the noise
:math:`\epsilon = m + L n` of a posterior, the best Gaussian approximation satisfies

.. math:: E[g] = 0, \qquad (L L^\top)^{-1} = -E[\nabla g]

A step replaces m and L by the solution of these equations for the linear function that fits the
gradients of a few draws best. By Stein's lemma its slope estimates :math:`E[\nabla g]`: no second
derivative is taken, and kinks of the decoder are averaged.

References:
    The Variational Gaussian Approximation Revisited (Opper & Archambeau, 2009)
    Fast and Scalable Bayesian Deep Learning by Weight-Perturbation in Adam (Khan et al., 2018),
    https://arxiv.org/abs/1806.04854
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution

from density.estimation.batches import contiguous_draws
from density.estimation.importance import samples_decoded
from density.estimation.moved import Moved
from density.estimation.proposals import Draws, Posterior, Proposal
from density.estimation.refined import better, even_noise
from density.estimation.streams import own_draws
from density.model import LatentModel, check_gradients
from univae.errors import InputError
from univae.latent.sampling import from_noise

__all__ = ["Newton"]

# of the latents of a datum: a step takes time with their cube, and 50 MB a datum at the limit
MOST_DIMS = 1024
LARGEST_RESIDUAL = 1e100  # larger ones, whose squares overflow, count as not finite
RIDGE = 1 / 8  # of the regression, in draws over draws: slopes of few draws shrink towards 0
LARGEST_RATIO = 9.0  # of a variance to that before the step, or its inverse
LARGEST_SHIFT = 2.0  # of the mean in a step, in deviations at each coordinate (root mean square)
PAIR = 2
JUDGES = 8  # draws a datum that compare the fit with the encoder
ACTIVATIONS = 4  # a gradient keeps the activations of so many times as many rows as a value


@dataclass(frozen=True)
class Newton:
    r"""Draws by ``proposal`` from a Gaussian fitted to each datum by ``rounds`` Newton steps.

    A step decodes ``particles`` draws with a gradient in z, and sees half as many directions of the
    noise: many latents need more rounds. Where the fit does not raise the bound on new draws, the
    encoder's parameters are used. None of these draws is used in the weights, so they stay
    unbiased. ``experiments.benchmarks.equal_error`` compares times and errors with those of
    :class:`density.estimation.refined.Refined`.

    Raises:
        InputError: ``rounds`` is less than 1, or ``particles`` less than 2 or odd.
    """

    rounds: int = 2
    particles: int = 32  # draws a datum and step: pairs of opposite noise
    proposal: Proposal = field(default_factory=Posterior)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.particles < PAIR or self.particles % PAIR:
            raise InputError(
                "Newton: rounds must be at least 1 and particles an even number of at least 2; "
                f"got rounds={self.rounds}, particles={self.particles}; 2 of 32 are usual"
            )

    @property
    def replicates(self) -> int:
        """The number of groups of draws that are independent."""
        return self.proposal.replicates

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum of the fitted Gaussian, by the inner proposal."""
        fitted = self.fit(model, x, q, chunk)
        yield from self.proposal.draws(model, x, fitted, samples, chunk)

    @torch.no_grad()
    def fit(
        self, model: LatentModel, x: Tensor, q: Distribution, chunk: int | None = None
    ) -> Moved:
        """Return the posterior ``q`` of ``x`` moved to the fit; its parameters carry no gradient.

        ``chunk`` draws are decoded at once, a quarter as many where gradients are needed.

        Raises:
            InputError: inference mode is on, a datum has more than :data:`MOST_DIMS` latents, or q
                does not map normal noise to latents.
        """
        check_gradients("Newton")
        dims = q.event_shape.numel()
        if dims > MOST_DIMS:
            raise InputError(
                f"Newton: a datum may have at most {MOST_DIMS} latents; got {dims}; use Refined()"
            )
        at_once = max(1, (chunk or samples_decoded(x, len(x))) // ACTIVATIONS)
        like = torch.zeros_like(q.sample())
        gaussian = _Gaussian.standard(like)
        for _ in range(self.rounds):
            with own_draws(x, "newton"):
                half = torch.randn(
                    self.particles // PAIR, *like.shape, dtype=like.dtype, device=like.device
                )
            noise = torch.cat([half, -half])
            flat = _flat(noise).double()
            eps = gaussian.of_noise(flat).to(like.dtype).view_as(noise)
            gradients = [_gradient(model, x, q, part) for part in eps.split(at_once)]
            gaussian = gaussian.stepped(flat, _flat(torch.cat(gradients)).double())

        encoder = _Gaussian.standard(like).moving(q, like)
        with own_draws(x, "judges"):
            judges = even_noise(JUDGES, like)
        return better(model, x, encoder, gaussian.moving(q, like), judges)


@dataclass(frozen=True)
class _Gaussian:
    """A Gaussian of the noise of each datum: its mean, and a triangular root of its covariance."""

    mean: Float64[Tensor, "B d"]
    root: Float64[Tensor, "B d d"]

    @classmethod
    def standard(cls, like: Float[Tensor, "*batch_and_event"]) -> "_Gaussian":
        """Return the standard normal of noise with the shape of ``like``."""
        mean = torch.zeros_like(like, dtype=torch.float64).reshape(len(like), -1)
        eye = torch.eye(mean.shape[1], dtype=torch.float64, device=mean.device)
        return cls(mean, eye.expand(len(mean), -1, -1))

    def of_noise(self, noise: Float64[Tensor, "K B d"]) -> Float64[Tensor, "K B d"]:
        """Map standard normal noise to draws."""
        return self.mean + torch.einsum("bij,kbj->kbi", self.root, noise)

    def stepped(
        self, noise: Float64[Tensor, "K B d"], gradients: Float64[Tensor, "K B d"]
    ) -> "_Gaussian":
        r"""Return the Gaussian after a step, from gradients at the draws of ``noise``.

        In the noise the gradient is :math:`L^\top g = b - (I - C) n` for a Gaussian target; b and
        the symmetric C come from a ridge regression. The new mean is :math:`m + L (I - C)^{-1} b`
        and the new covariance :math:`L (I - C)^{-1} L^\top`, both within limits. A covariance that
        rounding has left without a root changes nothing.
        """
        residual = torch.einsum("bji,kbj->kbi", self.root, gradients) + noise
        residual = contiguous_draws(residual.where(residual.abs() < LARGEST_RESIDUAL, 0.0))
        intercept = residual.mean(0)
        precision, axes = torch.linalg.eigh(_precision(noise, residual - intercept))
        variance = (1 / precision.clamp_min(1 / LARGEST_RATIO)).clamp_min(1 / LARGEST_RATIO)

        scaled_axes = axes * variance.unsqueeze(-2)
        shift = scaled_axes @ (axes.mT @ intercept.unsqueeze(-1))
        length = shift.square().mean(-2, keepdim=True).sqrt()
        shift = shift * (LARGEST_SHIFT / length.clamp_min(LARGEST_SHIFT))
        covariance = self.root @ scaled_axes @ axes.mT @ self.root.mT
        root, failure = torch.linalg.cholesky_ex((covariance + covariance.mT) / 2)
        is_new = (failure == 0) & root.isfinite().all(-1).all(-1)
        mean = self.mean + (self.root @ shift).squeeze(-1)
        return _Gaussian(
            mean.where(is_new[:, None], self.mean), root.where(is_new[:, None, None], self.root)
        )

    def moving(self, q: Distribution, like: Float[Tensor, "*batch_and_event"]) -> Moved:
        """Return ``q`` with this Gaussian in the place of its standard normal noise."""
        mean = self.mean.to(like.dtype).view_as(like)
        log_scale = self.root.diagonal(dim1=-2, dim2=-1).log().to(like.dtype).view_as(like)
        return Moved(q, mean, log_scale, self.root.tril(-1).to(like.dtype))


def _precision(
    noise: Float64[Tensor, "K B d"], residual: Float64[Tensor, "K B d"]
) -> Float64[Tensor, "B d d"]:
    """Return :math:`I - C`, C the symmetric part of the slope of the residual by the noise."""
    count, _, dims = noise.shape
    by_datum = noise.permute(1, 2, 0).contiguous()
    eye = torch.eye(dims, dtype=noise.dtype, device=noise.device)
    squares = by_datum @ by_datum.mT + RIDGE * count * eye
    slope: Tensor = torch.linalg.solve(squares, by_datum @ residual.permute(1, 2, 0).mT)
    return eye - (slope + slope.mT) / 2


def _gradient(
    model: LatentModel, x: Tensor, q: Distribution, eps: Float[Tensor, "K *sample"]
) -> Float[Tensor, "K *sample"]:
    """Return the gradient of the log-joint density in the noise of ``q``."""
    with torch.enable_grad():
        eps = eps.detach().requires_grad_()
        z, log_q = from_noise(q, eps)
        log_joint = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
        log_volume = log_q + _flat(eps).square().sum(-1) / 2  # minus log |T'|, and a constant
        total = (log_joint - log_volume).sum()
    return torch.autograd.grad(total, eps)[0]


def _flat(values: Float[Tensor, "K B *event"]) -> Float[Tensor, "K B d"]:
    return values.reshape(*values.shape[:2], -1)
