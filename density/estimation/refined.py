r"""A posterior refined for each datum: gradient steps on the bound, in the noise.

.. math:: \epsilon = m_x + e^{s_x} n, \qquad z = T_x(\epsilon), \qquad n \sim \mathcal{N}(0, I)

See :class:`density.estimation.moved.Moved`. The step size decays to zero along half a cosine.

References:
    Semi-Amortized Variational Autoencoders (Kim et al., 2018), https://arxiv.org/abs/1802.02550
    Iterative Amortized Inference (Marino et al., 2018), https://arxiv.org/abs/1807.09356
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributions import Distribution
from torch.optim.lr_scheduler import CosineAnnealingLR

from density.estimation.batches import contiguous_draws, whole_groups
from density.estimation.moved import Moved, moved_alike
from density.estimation.proposals import Draws, Posterior, Proposal
from density.estimation.streams import own_draws, rows_with_streams
from density.model import LatentModel, check_gradients
from univae.errors import InputError

__all__ = ["Refined", "better", "bound", "even_noise"]

CHECKS = 4  # iterates that are compared, at equal distances, the last one among them
JUDGES = 16  # draws a datum that compare two posteriors
MEMORY = (0.9, 0.99)  # of Adam's moments: the second is as short as the refinement


@dataclass(frozen=True)
class Refined:
    r"""Draws by ``proposal`` from a posterior refined on the bound of each datum.

    The refinement is ``steps`` of Adam, with new draws in each. Of four iterates the one with the
    largest bound on one set of draws is kept; where it does not raise the bound on one more set,
    the encoder's parameters are used. None of these draws is used in the weights, so they stay
    unbiased.

    Raises:
        InputError: ``steps`` or ``particles`` is less than 1.
    """

    steps: int = 30
    lr: float = 0.1  # of the first step, in standard deviations of the encoder's posterior
    proposal: Proposal = field(default_factory=Posterior)
    particles: int = 8  # draws a datum and step
    full: bool = field(default=False, kw_only=True)  # a full covariance, not a diagonal one

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

    @torch.no_grad()
    def refine(
        self,
        model: LatentModel,
        x: Tensor,
        q: Distribution,
        *,
        rows: Bool[Tensor, "B"] | None = None,
    ) -> Moved:
        """Return the refined posterior of each datum; its parameters carry no gradient.

        With ``rows`` only these data are refined, at the cost of these alone. They are encoded
        again, so q must be ``model.posterior(x)`` or a :class:`Moved` one.

        Raises:
            InputError: inference mode is on.
        """
        check_gradients("Refined")
        if rows is None:
            return self._refined(model, x, q)
        zeros = torch.zeros_like(q.sample())
        moved = Moved(q, zeros, zeros)
        if not rows.any():
            return moved
        chosen = whole_groups(rows, len(x))
        data = rows_with_streams(x, chosen)
        encoder = moved_alike(model.posterior(data), q, chosen)
        return _with_rows(moved, chosen, self._refined(model, data, encoder))

    def _refined(self, model: LatentModel, x: Tensor, q: Distribution) -> Moved:
        zeros = torch.zeros_like(q.sample())
        lower = None
        if self.full:
            dim = q.event_shape.numel()
            lower = zeros.new_zeros(*q.batch_shape, dim, dim)
        encoder = Moved(q, zeros, zeros, lower)

        with own_draws(x, "judges"):
            noise = even_noise(JUDGES, zeros)
            new_noise = even_noise(JUDGES, zeros)
        best = encoder
        for iterate in self._iterates(model, x, encoder):
            best = better(model, x, best, iterate, noise)
        return better(model, x, encoder, best, new_noise)

    def _iterates(self, model: LatentModel, x: Tensor, start: Moved) -> Iterator[Moved]:
        """Yield a few of the posteriors on the way from ``start``, the last one among them."""
        parameters = [p.clone().requires_grad_() for p in start.parameters]
        optimizer = torch.optim.Adam(parameters, lr=self.lr, betas=MEMORY)
        schedule = CosineAnnealingLR(optimizer, self.steps)
        for step in range(self.steps):
            with own_draws(x, "refinement"):
                noise = even_noise(self.particles, start.shift)
            with torch.enable_grad():
                loss = -bound(model, x, start.replaced(parameters), noise).sum()
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                # a datum whose bound has no gradient stays as it is
                parameter.grad = gradient.where(gradient.isfinite(), 0.0)
            optimizer.step()
            schedule.step()
            if (step + 1) * CHECKS // self.steps > step * CHECKS // self.steps:
                yield start.replaced([p.detach().clone() for p in parameters])


def bound(
    model: LatentModel, x: Tensor, q: Moved, noise: Float[Tensor, "K *sample"]
) -> Float[Tensor, "B"]:
    """Return the ELBO of each datum under a moved posterior, a mean over K draws of ``noise``."""
    z, log_q = q.from_noise(noise.to(q.shift))
    log_w = model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - log_q
    return contiguous_draws(log_w).mean(0)


def even_noise(count: int, like: Float[Tensor, "*sample"]) -> Float[Tensor, "K *sample"]:
    """Draw noise whose K values at each coordinate have mean 0 and variance 1, if K is above 1.

    Means of quadratic functions without products of coordinates are then exact.
    """
    noise = contiguous_draws(torch.randn(count, *like.shape, dtype=like.dtype, device=like.device))
    if count == 1:
        return noise
    centred = noise - noise.mean(0)
    return (centred / centred.square().mean(0).sqrt()).contiguous()


def better(model: LatentModel, x: Tensor, first: Moved, second: Moved, noise: Tensor) -> Moved:
    """Return for each datum the posterior with the larger bound on ``noise``; in doubt the first.

    Both are moved from the same posterior.
    """
    is_better = bound(model, x, second, noise) > bound(model, x, first, noise)
    parameters = []
    for before, after in zip(first.parameters, second.parameters, strict=True):
        mask = is_better.view(*is_better.shape, *[1] * (before.dim() - is_better.dim()))
        parameters.append(torch.where(mask, after, before))
    return first.replaced(parameters)


def _with_rows(moved: Moved, rows: Int[Tensor, "rows"], refined: Moved) -> Moved:
    """Return ``moved``, at rest so far, with the parameters of ``refined`` in some rows."""
    parameters = []
    for values in refined.parameters:
        whole = values.new_zeros(len(moved.shift), *values.shape[1:])
        whole[rows] = values
        parameters.append(whole)
    return Moved(moved.q, *parameters)
