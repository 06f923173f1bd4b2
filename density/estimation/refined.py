r"""A posterior refined for each datum: a few gradient steps on the bound, taken on the noise instead of the encoder.

.. math:: \epsilon = m_x + e^{s_x} n, \qquad z = T_x(\epsilon), \qquad n \sim \mathcal{N}(0, I)

Of a diagonal Gaussian this moves mean and log-scale, in units of its own spread; of any other
posterior that maps normal noise to draws, a stack of layers say, it moves what stands in their
place.

References:
    Semi-Amortized Variational Autoencoders (Kim et al., 2018), https://arxiv.org/abs/1802.02550
    Iterative Amortized Inference (Marino et al., 2018), https://arxiv.org/abs/1807.09356
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution

from density.estimation.proposals import Draws, Posterior, Proposal
from density.model import LatentModel, check_gradients
from univae.errors import InputError
from univae.latent.sampling import from_noise

__all__ = ["Moved", "Refined", "bound"]


class Moved(Distribution):
    r"""The law of :math:`T(m + e^s n)` for a posterior :math:`T(\epsilon)`, with :math:`n \sim \mathcal{N}(0, I)`."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, q: Distribution, shift: Tensor, log_scale: Tensor) -> None:
        self.q = q
        self.shift = shift
        self.log_scale = log_scale
        super().__init__(q.batch_shape, q.event_shape, validate_args=False)

    def from_noise(self, eps: Float[Tensor, "*sample"]) -> tuple[Tensor, Tensor]:
        inner = self.shift + self.log_scale.exp() * eps
        z, log_q = from_noise(self.q, inner)
        # of the noise laws, per coordinate
        ratio = (inner.square() - eps.square()) / 2 - self.log_scale
        return z, log_q + ratio.reshape(*log_q.shape, -1).sum(-1)

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = Size()) -> tuple[Tensor, Tensor]:
        shape = (*sample_shape, *self.shift.shape)
        return self.from_noise(torch.randn(shape, dtype=self.shift.dtype, device=self.shift.device))

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        return self.rsample_with_log_prob(sample_shape)[0]

    def log_prob(self, value: Tensor) -> Tensor:
        raise InputError(
            "Refined: a refined posterior knows the density of its own draws alone, so Defensive() cannot mix it; "
            "refine for Widened, StudentT, Sobol or Posterior"
        )


@dataclass(frozen=True)
class Refined:
    r"""Refines the posterior of each datum on its bound, then draws from it as ``proposal`` says.

    ``steps`` of Adam with fresh draws. A datum whose bound is not above that of the encoder's own
    parameters, on one fresh set of draws, keeps those. The refinement does not see the draws that
    are weighed, so these stay unbiased.
    """

    steps: int = 10
    lr: float = 0.1  # in standard deviations of the encoder's posterior
    proposal: Proposal = field(default_factory=Posterior)
    particles: int = 16  # draws a datum and step

    def __post_init__(self) -> None:
        if self.steps < 1 or self.particles < 1:
            raise InputError(
                f"Refined: steps and particles must be at least 1; got steps={self.steps}, particles={self.particles}; "
                f"without steps, use the inner proposal alone"
            )

    @property
    def replicates(self) -> int:
        return self.proposal.replicates

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        yield from self.proposal.draws(model, x, self.refine(model, x, q), samples, chunk)

    def refine(self, model: LatentModel, x: Tensor, q: Distribution) -> Moved:
        """Return the refined posterior of each datum; its parameters carry no gradient."""
        check_gradients("Refined")
        like = q.sample()
        shift = torch.zeros_like(like, requires_grad=True)
        log_scale = torch.zeros_like(like, requires_grad=True)
        optimizer = torch.optim.Adam([shift, log_scale], lr=self.lr)
        for _ in range(self.steps):
            with torch.enable_grad():
                n = torch.randn(self.particles, *like.shape)
                loss = -bound(model, x, Moved(q, shift, log_scale), n).sum()
            shift.grad, log_scale.grad = torch.autograd.grad(loss, (shift, log_scale))
            optimizer.step()
        return self._better(model, x, q, shift.detach(), log_scale.detach())

    @torch.no_grad()
    def _better(
        self, model: LatentModel, x: Tensor, q: Distribution, shift: Tensor, log_scale: Tensor
    ) -> Moved:
        """Take back the steps of the data whose bound did not rise."""
        n = torch.randn(self.particles, *shift.shape)
        before = bound(model, x, Moved(q, torch.zeros_like(shift), torch.zeros_like(shift)), n)
        after = bound(model, x, Moved(q, shift, log_scale), n)
        rose = (after > before).view(*before.shape, *[1] * len(q.event_shape))
        return Moved(q, torch.where(rose, shift, 0.0), torch.where(rose, log_scale, 0.0))


def bound(
    model: LatentModel, x: Tensor, q: Moved, n: Float[Tensor, "K *sample"]
) -> Float[Tensor, "B"]:
    """The ELBO of each datum under a moved posterior, a mean over the noise given."""
    z, log_q = q.from_noise(n.to(q.shift))
    return (model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - log_q).mean(0)
