r"""A posterior refined for each datum: gradient steps on the bound, in the noise.

.. math:: \epsilon = m_x + e^{s_x} n, \qquad z = T_x(\epsilon), \qquad n \sim \mathcal{N}(0, I)

Of a diagonal Gaussian this moves mean and log-scale, in units of its own spread; of any other
posterior that maps normal noise to draws, a stack of layers say, it moves their counterparts.

References:
    Semi-Amortized Variational Autoencoders (Kim et al., 2018), https://arxiv.org/abs/1802.02550
    Iterative Amortized Inference (Marino et al., 2018), https://arxiv.org/abs/1807.09356
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from density.estimation.proposals import Draws, Posterior, Proposal
from density.model import LatentModel, check_gradients
from univae.errors import InputError
from univae.latent.sampling import from_noise

__all__ = ["Moved", "Refined", "bound"]


class Moved(Distribution):
    r"""The distribution of :math:`T(m + e^s n)` for a posterior :math:`T(\epsilon)`.

    Here :math:`n \sim \mathcal{N}(0, I)`, m is ``shift`` and s ``log_scale``.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    has_rsample = True

    def __init__(self, q: Distribution, shift: Tensor, log_scale: Tensor) -> None:
        self.q = q
        self.shift = shift
        self.log_scale = log_scale
        super().__init__(q.batch_shape, q.event_shape, validate_args=False)

    def from_noise(self, eps: Float[Tensor, "*sample"]) -> tuple[Tensor, Tensor]:
        """Map standard normal noise to z and its log-density."""
        inner = self.shift + self.log_scale.exp() * eps
        z, log_q = from_noise(self.q, inner)
        # log-density of eps over that of inner, per coordinate
        log_ratio = (inner.square() - eps.square()) / 2 - self.log_scale
        return z, log_q + log_ratio.reshape(*log_q.shape, -1).sum(-1)

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = Size()) -> tuple[Tensor, Tensor]:
        """Draw z with its log-density."""
        shape = (*sample_shape, *self.shift.shape)
        return self.from_noise(torch.randn(shape, dtype=self.shift.dtype, device=self.shift.device))

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw z."""
        return self.rsample_with_log_prob(sample_shape)[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """Raise :class:`InputError`: the density would need the inverse of the map."""
        raise InputError(
            "Refined: a refined posterior has a density at its draws alone, which Defensive() "
            "needs elsewhere; refine for Widened, StudentT, Sobol or Posterior"
        )


@dataclass(frozen=True)
class Refined:
    r"""Draws by ``proposal`` from a posterior refined on the bound of each datum.

    The refinement is ``steps`` of Adam, with new draws in each. Where it does not raise the bound
    on one more set of draws, the encoder's parameters are used. It does not use the draws of the
    weights, so these stay unbiased.

    Raises:
        InputError: ``steps`` or ``particles`` is less than 1.
    """

    steps: int = 10
    lr: float = 0.1  # in standard deviations of the encoder's posterior
    proposal: Proposal = field(default_factory=Posterior)
    particles: int = 16  # draws a datum and step

    def __post_init__(self) -> None:
        if self.steps < 1 or self.particles < 1:
            raise InputError(
                "Refined: steps and particles must be at least 1; "
                f"got steps={self.steps}, particles={self.particles}; "
                "without steps, use the inner proposal alone"
            )

    @property
    def replicates(self) -> int:
        """The number of groups of draws that are independent."""
        return self.proposal.replicates

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum of the refined posterior, by the inner proposal."""
        yield from self.proposal.draws(model, x, self.refine(model, x, q), samples, chunk)

    def refine(self, model: LatentModel, x: Tensor, q: Distribution) -> Moved:
        """Return the refined posterior of each datum; its parameters carry no gradient.

        Raises:
            InputError: inference mode is on.
        """
        check_gradients("Refined")
        like = q.sample()
        shift = torch.zeros_like(like, requires_grad=True)
        log_scale = torch.zeros_like(like, requires_grad=True)
        optimizer = torch.optim.Adam([shift, log_scale], lr=self.lr)
        for _ in range(self.steps):
            with torch.enable_grad():
                noise = torch.randn(self.particles, *like.shape)
                loss = -bound(model, x, Moved(q, shift, log_scale), noise).sum()
            shift.grad, log_scale.grad = torch.autograd.grad(loss, (shift, log_scale))
            optimizer.step()
        return self._better(model, x, q, shift.detach(), log_scale.detach())

    @torch.no_grad()
    def _better(
        self, model: LatentModel, x: Tensor, q: Distribution, shift: Tensor, log_scale: Tensor
    ) -> Moved:
        """Return the refined posterior; for data whose bound did not rise, that of the encoder."""
        noise = torch.randn(self.particles, *shift.shape)
        zeros = torch.zeros_like(shift)
        before = bound(model, x, Moved(q, zeros, zeros), noise)
        after = bound(model, x, Moved(q, shift, log_scale), noise)
        is_better = (after > before).view(*before.shape, *[1] * len(q.event_shape))
        return Moved(q, torch.where(is_better, shift, 0.0), torch.where(is_better, log_scale, 0.0))


def bound(
    model: LatentModel, x: Tensor, q: Moved, noise: Float[Tensor, "K *sample"]
) -> Float[Tensor, "B"]:
    """Return the ELBO of each datum under a moved posterior, a mean over K draws of ``noise``."""
    z, log_q = q.from_noise(noise.to(q.shift))
    return (model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - log_q).mean(0)
