r"""Annealed importance sampling: likelihood where plain importance sampling fails, from both sides.

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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from density.estimation.diagnostics import effective_samples, standard_error
from density.estimation.hmc import transition, tune_step_size
from density.estimation.importance import log_likelihood
from density.model import LatentModel, as_data, check_gradients
from univae.errors import InputError
from univae.latent.sampling import from_noise
from univae.registry import lookup

__all__ = ["Annealed", "Sandwich", "annealed", "sandwich", "sigmoid_path"]

PILOTS = 4  # chains a datum that tune its step size and are not averaged
FIRST_STEP = 0.2  # the step size before the tuning
STEEPNESS = 4.0  # of the sigmoid: its densities lie closer at both ends of the path
FEWEST_STEPS = 2


class Annealed(NamedTuple):
    """An estimate from C annealed chains of each datum; log-densities in nats."""

    log_likelihood: Tensor  # estimate of log p(x): a lower bound in expectation
    standard_error: Tensor  # of log_likelihood, to first order
    effective_chains: Tensor  # between 1 and C
    acceptance: Tensor  # mean over chains and steps: near 0.65 where the tuning worked


class Sandwich(NamedTuple):
    """Bounds on log p(x) of data simulated from the model, in nats: each holds in expectation."""

    lower: Tensor
    upper: Tensor

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


@runtime_checkable
class Base(Protocol):
    """The density from which a path starts."""

    def sample(self, chains: int) -> Float[Tensor, "chains B *event"]:
        """Draw the first latents of ``chains`` chains a datum."""
        ...

    def log_density(self, z: Tensor, log_prior: Tensor) -> Tensor:
        """Return the log-density of ``z``, whose log-density under the prior is ``log_prior``."""
        ...


class PriorBase:
    """The prior of the model."""

    def __init__(self, model: LatentModel, x: Tensor, prior: Distribution) -> None:
        self._prior = prior
        self._count = x.shape[0]

    def sample(self, chains: int) -> Float[Tensor, "chains B *event"]:
        """Draw from the prior."""
        return self._prior.sample(Size((chains, self._count)))

    def log_density(self, z: Tensor, log_prior: Tensor) -> Tensor:
        """Return ``log_prior``."""
        return log_prior


class PosteriorBase:
    """The posterior of the model, where a trained encoder saves most of the steps."""

    def __init__(self, model: LatentModel, x: Tensor, prior: Distribution) -> None:
        self._posterior = model.posterior(x)

    def sample(self, chains: int) -> Float[Tensor, "chains B *event"]:
        """Draw from the posterior."""
        return self._posterior.sample(Size((chains,)))

    def log_density(self, z: Tensor, log_prior: Tensor) -> Tensor:
        """Return the log-density of the posterior."""
        return self._posterior.log_prob(z).double()


BASES: Mapping[str, Callable[[LatentModel, Tensor, Distribution], Base]] = {
    "prior": PriorBase,
    "posterior": PosteriorBase,
}

if TYPE_CHECKING:
    Start: TypeAlias = str
else:
    Start = Literal[tuple(BASES)]


@dataclass(frozen=True)
class _Path:
    """The geometric path from a base density to the joint density of one batch of data."""

    model: LatentModel
    x: Tensor
    prior: Distribution
    base: Base

    def ends(self, z: Tensor) -> tuple[Float64[Tensor, "chains B"], Float64[Tensor, "chains B"]]:
        r"""Return :math:`\log p_0(z)` and :math:`\log p(x, z)`."""
        log_prior = self.prior.log_prob(z).double()
        base = self.base.log_density(z, log_prior)
        return base, log_prior + self.model.likelihood(z).log_prob(self.x).double()

    def log_density(self, beta: float, z: Tensor) -> Float64[Tensor, "chains B"]:
        """Return the unnormalised log-density at ``beta`` of the path."""
        base, joint = self.ends(z)
        return (1 - beta) * base + beta * joint

    def log_ratio(self, z: Tensor) -> Float64[Tensor, "chains B"]:
        """Return the joint log-density over that of the base."""
        base, joint = self.ends(z)
        return joint - base


@torch.no_grad()
def annealed(
    model: LatentModel, x: Tensor, steps: int, chains: int, *, start: Start = "prior"
) -> Annealed:
    r"""Estimate :math:`\log p(x)` by ``chains`` chains a datum, each over a path of ``steps``.

    The path starts from the prior or from the posterior :math:`q(z \mid x)`, where a trained
    encoder saves most of the steps. A step decodes (chains + 4) B rows 11 times with a gradient in
    z: the 4 pilot chains tune the step size of their datum, so that no kernel depends on the chains
    that are averaged and these stay unbiased. Call ``model.eval()`` first.

    Raises:
        InputError: fewer than 2 steps or 1 chain, inference mode, or a prior whose latents do not
            fill :math:`\mathbb{R}^d`.
    """
    x = as_data(x, "annealed")
    prior = _flat_prior(model, "annealed", steps, chains)
    base = lookup(BASES, start, "annealed: start")
    path = _Path(model, x, prior, base(model, x, prior))
    z = path.base.sample(PILOTS + chains)
    walk = _walk(path, z, sigmoid_path(steps))
    log_w = walk.log_w[PILOTS:]
    acceptance = walk.acceptance[:, PILOTS:].mean((0, 1))
    return Annealed(
        log_likelihood(log_w), standard_error(log_w), effective_samples(log_w), acceptance
    )


@torch.no_grad()
def sandwich(
    model: LatentModel, count: int, steps: int, chains: int, *, start: Start = "prior"
) -> Sandwich:
    r"""Simulate ``count`` data from the model and bound :math:`\log p(x)` of each from both sides.

    .. math:: z^* \sim p(z), \quad x \sim p(x \mid z^*), \qquad
              \log \bar w_{\text{forward}} \lesssim \log p(x) \lesssim -\log \bar w_{\text{reverse}}

    The reverse chains all start from :math:`z^*`, an exact draw of the posterior, and retrace the
    path with the step sizes of the forward ones. A small gap shows that ``steps`` and ``chains``
    suffice for this model.

    Raises:
        InputError: as :func:`annealed`; ``count`` is less than 1, or the likelihood has no
            ``sample()``.
    """
    if count < 1:
        raise InputError(f"sandwich: count must be at least 1; got count={count}")
    prior = _flat_prior(model, "sandwich", steps, chains)
    exact_z = prior.sample(Size((count,)))
    betas = sigmoid_path(steps)
    x = _simulate(model, exact_z)
    base = lookup(BASES, start, "sandwich: start")
    path = _Path(model, x, prior, base(model, x, prior))

    forward = _walk(path, path.base.sample(PILOTS + chains), betas)
    exact_draws = exact_z.expand(chains, *exact_z.shape)
    reverse = _walk(path, exact_draws, betas.flip(0), forward.step_sizes[::-1])
    return Sandwich(log_likelihood(forward.log_w[PILOTS:]), -log_likelihood(reverse.log_w))


def sigmoid_path(steps: int) -> Float64[Tensor, "points"]:
    r"""Return :math:`\beta_t \propto \sigma(4 (2t/T - 1)) - \sigma(-4)` from 0 to 1.

    >>> sigmoid_path(4)
    tensor([0.0000, 0.1050, 0.5000, 0.8950, 1.0000], dtype=torch.float64)
    """
    s = (STEEPNESS * torch.linspace(-1, 1, steps + 1, dtype=torch.float64)).sigmoid()
    return (s - s[0]) / (s[-1] - s[0])


class _Walk(NamedTuple):
    """What chains collect along a path."""

    log_w: Float64[Tensor, "chains B"]
    acceptance: Float[Tensor, "moves chains B"]
    step_sizes: list[Tensor]


def _walk(
    path: _Path,
    z: Float[Tensor, "chains B *event"],
    betas: Float64[Tensor, "points"],
    step_sizes: Sequence[Tensor] | None = None,
) -> _Walk:
    """Move chains along ``betas``, with given step sizes or such as the pilot chains tune."""
    size = z.new_full(z.shape[1:2], FIRST_STEP)
    log_w = (betas[1] - betas[0]) * path.log_ratio(z)
    acceptance = []
    sizes = []
    for t, (beta, next_beta) in enumerate(pairwise(betas[1:].tolist())):
        if step_sizes is not None:
            size = step_sizes[t]
        z, probability = transition(partial(path.log_density, beta), z, size)
        log_w = log_w + (next_beta - beta) * path.log_ratio(z)
        acceptance.append(probability)
        sizes.append(size)
        size = tune_step_size(size, probability[:PILOTS])
    return _Walk(log_w, torch.stack(acceptance), sizes)


def _simulate(model: LatentModel, z: Tensor) -> Tensor:
    likelihood = model.likelihood(z)
    try:
        return likelihood.sample()
    except NotImplementedError as error:
        raise InputError(
            "sandwich: simulates data, so model.likelihood(z) needs sample(); "
            f"{type(likelihood).__name__} has none; "
            "write it, or use annealed() on your data for the lower bound alone"
        ) from error


def _flat_prior(model: LatentModel, who: str, steps: int, chains: int) -> Distribution:
    """Return the prior, whose latents may move in all directions."""
    check_gradients(who)
    if steps < FEWEST_STEPS or chains < 1:
        raise InputError(
            f"{who}: needs at least 2 steps and 1 chain; got steps={steps}, chains={chains}; "
            "one step would be importance sampling: use estimate()"
        )
    prior = model.prior()
    if not _is_flat(prior):
        raise InputError(
            f"{who}: Hamiltonian moves need latents on all of R^d, so a prior with a real support "
            f"or one that maps normal noise; got {type(prior).__name__}; "
            "use estimate(), with Defensive() where the posterior is poor"
        )
    return prior


def _is_flat(prior: Distribution) -> bool:
    """Return whether every vector is a latent.

    A prior without a support must map normal noise to latents.
    """
    try:
        support = prior.support
    except NotImplementedError:
        return _maps_noise(prior)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return isinstance(support, type(constraints.real))


def _maps_noise(prior: Distribution) -> bool:
    try:
        from_noise(prior, torch.zeros_like(prior.sample()))
    except InputError:
        return False
    return True
