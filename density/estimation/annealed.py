r"""Annealed importance sampling: bounds of the likelihood from below and above.

A chain follows the geometric path from a base density to the joint density by Hamiltonian Monte
Carlo, and accumulates

.. math:: \log f_\beta(z) = (1 - \beta) \log p_0(z) + \beta \log p(x, z), \qquad
          \log w = \sum_t (\beta_t - \beta_{t-1}) \log \frac{p(x, z_{t-1})}{p_0(z_{t-1})}, \qquad
          E[w] = p(x)

A datum simulated from the model comes with an exact posterior draw: a chain that walks the path
back from it bounds from above.

References:
    Annealed Importance Sampling (Neal, 1998), https://arxiv.org/abs/physics/9803008
    Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse et al., 2015),
    https://arxiv.org/abs/1511.02543
    On the Quantitative Analysis of Decoder-Based Generative Models (Wu et al., 2016),
    https://arxiv.org/abs/1611.04273
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Size, Tensor
from torch.distributions import Distribution

from density.estimation.annealing_path import BASES, Path, Start, is_flat, sigmoid_path
from density.estimation.batches import contiguous_draws
from density.estimation.diagnostics import effective_samples, standard_error
from density.estimation.hmc import transition, tune_step_size
from density.estimation.importance import log_mean_weight
from density.model import LatentModel, as_data, check_gradients
from univae.errors import InputError
from univae.registry import lookup
from univae.summaries import counted, mean_with_error

__all__ = [
    "Annealed",
    "Sandwich",
    "Simulated",
    "annealed",
    "sandwich",
    "sandwich_of",
    "sigmoid_path",
    "simulate",
]

PILOTS = 4  # chains per datum that tune its step size and are not averaged
FIRST_STEP = 0.2  # the step size before the tuning
FEWEST_STEPS = 2  # one step would be importance sampling


class Annealed(NamedTuple):
    """An estimate from C annealed chains of each datum; log-densities in nats."""

    log_likelihood: Tensor  # estimate of log p(x): a lower bound in expectation
    standard_error: Tensor  # of log_likelihood, to first order
    effective_chains: Tensor  # between 1 and C
    acceptance: Tensor  # mean over chains and steps: near 0.65 where the tuning worked

    def __repr__(self) -> str:
        """Return means over the data in one line."""
        return (
            f"Annealed(log_likelihood {mean_with_error(self.log_likelihood)} nats, "
            f"effective_chains {self.effective_chains.median().item():.1f}, "
            f"acceptance {self.acceptance.mean().item():.2f}, {counted(self.acceptance.numel())})"
        )


class Sandwich(NamedTuple):
    """Bounds on log p(x) of data simulated from the model, in nats: each holds in expectation."""

    lower: Tensor
    upper: Tensor

    def __repr__(self) -> str:
        """Return the mean bounds and their gap in one line."""
        lower, upper, gap = self.mean
        return (
            f"Sandwich(lower {lower:.3f}, upper {upper:.3f}, gap {gap:.2g} nats, "
            f"{counted(self.lower.numel())})"
        )

    @property
    def gap(self) -> Tensor:
        """The upper bound minus the lower, per datum.

        Its mean limits the mean error of the lower bound on data like the model's own.
        """
        return self.upper - self.lower

    @property
    def mean(self) -> tuple[float, float, float]:
        """Lower bound, upper bound and gap, averaged over the data."""
        return self.lower.mean().item(), self.upper.mean().item(), self.gap.mean().item()


class Simulated(NamedTuple):
    """Data drawn from a model, each with the latent that it was drawn from."""

    x: Tensor
    z: Tensor  # an exact draw of the posterior of x


@torch.no_grad()
def annealed(
    model: LatentModel, x: Tensor, steps: int, chains: int, *, start: Start = "prior"
) -> Annealed:
    r"""Estimate :math:`\log p(x)` by ``chains`` chains a datum, each over a path of ``steps``.

    The path starts from the prior, from the posterior :math:`q(z \mid x)`, where a trained encoder
    saves most of the steps, or from an even mixture of both, where a posterior may miss a mode. A
    step decodes (chains + 4) B rows 11 times with a gradient in z: the 4 pilot chains tune the step
    size of their datum, so that no kernel depends on the chains that are averaged and these stay
    unbiased. Call ``model.eval()`` first.

    Raises:
        InputError: fewer than 2 steps or 1 chain, inference mode, or a prior whose latents do not
            fill :math:`\mathbb{R}^d`.
    """
    x = as_data(x, "annealed")
    prior = _flat_prior(model, "annealed", steps, chains)
    base = lookup(BASES, start, "annealed: start")
    path = Path(model, x, prior, base(model, x, prior))
    z = path.base.sample(PILOTS + chains)
    walk = _walk(path, z, sigmoid_path(steps))
    log_w = walk.log_w[PILOTS:]
    acceptance = walk.acceptance[:, PILOTS:].mean((0, 1))
    return Annealed(
        log_mean_weight(log_w), standard_error(log_w), effective_samples(log_w), acceptance
    )


@torch.no_grad()
def sandwich(
    model: LatentModel, count: int, steps: int, chains: int, *, start: Start = "prior"
) -> Sandwich:
    r"""Simulate ``count`` data from the model and bound :math:`\log p(x)` of each from both sides.

    .. math:: z^* \sim p(z), \quad x \sim p(x \mid z^*), \qquad
              \log \bar w_{\text{forward}} \lesssim \log p(x) \lesssim -\log \bar w_{\text{reverse}}

    A small gap shows that ``steps`` and ``chains`` suffice for this model.

    Raises:
        InputError: as :func:`annealed`; ``count`` is less than 1, the prior is one of each datum,
            or the likelihood has no ``sample()``.
    """
    _flat_prior(model, "sandwich", steps, chains)
    return sandwich_of(model, simulate(model, count), steps, chains, start=start)


@torch.no_grad()
def simulate(model: LatentModel, count: int) -> Simulated:
    r"""Draw ``count`` data, :math:`z^* \sim p(z)` and :math:`x \sim p(x \mid z^*)`.

    Raises:
        InputError: ``count`` is less than 1, the prior is one of each datum, or the likelihood has
            no ``sample()``.
    """
    if count < 1:
        raise InputError(f"sandwich: count must be at least 1; got count={count}")
    prior = model.prior()
    if prior.batch_shape:
        raise InputError(
            "sandwich: simulates data, so the prior must be one distribution, of batch shape (); "
            f"got {tuple(prior.batch_shape)}; use annealed() on your data for the lower bound alone"
        )
    z = prior.sample(Size((count,)))
    likelihood = model.likelihood(z)
    try:
        return Simulated(likelihood.sample(), z)
    except NotImplementedError as error:
        raise InputError(
            "sandwich: simulates data, so model.likelihood(z) needs sample(); "
            f"{type(likelihood).__name__} has none; "
            "implement it, or use annealed() on your data for the lower bound alone"
        ) from error


@torch.no_grad()
def sandwich_of(
    model: LatentModel, simulated: Simulated, steps: int, chains: int, *, start: Start = "prior"
) -> Sandwich:
    r"""Bound :math:`\log p(x)` of simulated data from both sides, see :func:`sandwich`.

    The reverse chains all start from :math:`z^*`, an exact draw of the posterior, and retrace the
    path with the step sizes of the forward ones.

    Raises:
        InputError: as :func:`annealed`.
    """
    prior = _flat_prior(model, "sandwich", steps, chains)
    x, exact_z = simulated
    betas = sigmoid_path(steps)
    base = lookup(BASES, start, "sandwich: start")
    path = Path(model, x, prior, base(model, x, prior))

    forward = _walk(path, path.base.sample(PILOTS + chains), betas)
    exact_draws = exact_z.expand(chains, *exact_z.shape)
    reverse = _walk(path, exact_draws, betas.flip(0), forward.step_sizes[::-1])
    return Sandwich(log_mean_weight(forward.log_w[PILOTS:]), -log_mean_weight(reverse.log_w))


class _Walk(NamedTuple):
    """The weights, acceptance probabilities and step sizes of chains along a path."""

    log_w: Float64[Tensor, "chains B"]
    acceptance: Float[Tensor, "moves chains B"]
    step_sizes: list[Tensor]


def _walk(
    path: Path,
    z: Float[Tensor, "chains B *event"],
    betas: Float64[Tensor, "points"],
    step_sizes: Sequence[Tensor] | None = None,
) -> _Walk:
    """Move chains along ``betas``; without ``step_sizes``, the pilot chains tune them."""
    size = z.new_full(z.shape[1:2], FIRST_STEP)
    log_w = (betas[1] - betas[0]) * path.log_ratio(z)
    acceptance = []
    sizes = []
    for t, (beta, next_beta) in enumerate(pairwise(betas[1:].tolist())):
        if step_sizes is not None:
            size = step_sizes[t]
        z, probability = transition(partial(path.log_density, beta), z, size, path.x)
        log_w = log_w + (next_beta - beta) * path.log_ratio(z)
        acceptance.append(probability)
        sizes.append(size)
        size = tune_step_size(size, probability[:PILOTS])
    return _Walk(contiguous_draws(log_w), torch.stack(acceptance), sizes)


def _flat_prior(model: LatentModel, who: str, steps: int, chains: int) -> Distribution:
    """Return the prior, after a check of its support and of the options."""
    check_gradients(who)
    if steps < FEWEST_STEPS or chains < 1:
        raise InputError(
            f"{who}: needs at least 2 steps and 1 chain; got steps={steps}, chains={chains}; "
            "one step would be importance sampling: use estimate()"
        )
    prior = model.prior()
    if not is_flat(prior):
        raise InputError(
            f"{who}: Hamiltonian moves need latents on all of R^d, so a prior with a real support "
            f"or one that maps normal noise; got {type(prior).__name__}; "
            "use estimate(), with Defensive() where the posterior is poor"
        )
    return prior
