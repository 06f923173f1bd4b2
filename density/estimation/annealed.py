r"""Likelihood where importance sampling fails: anneal from a known law to the posterior, and bound from both sides.

A chain walks the geometric path from a base law to the joint density by Hamiltonian Monte Carlo,
and collects

.. math:: \log f_\beta(z) = (1 - \beta) \log p_0(z) + \beta \log p(x, z), \qquad
          \log w = \sum_t (\beta_t - \beta_{t-1}) \log \frac{p(x, z_{t-1})}{p_0(z_{t-1})}, \qquad E[w] = p(x)

A datum simulated from the model comes with an exact posterior draw: the walk back from it bounds
from above.

References:
    Annealed Importance Sampling (Neal, 1998), https://arxiv.org/abs/physics/9803008 Sandwiching the
    marginal likelihood using bidirectional Monte Carlo (Grosse et al., 2015),
    https://arxiv.org/abs/1511.02543 On the Quantitative Analysis of Decoder-Based Generative Models
    (Wu et al., 2016), https://arxiv.org/abs/1611.04273
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from density.estimation.diagnostics import effective_samples, standard_error
from density.estimation.hmc import transition, tuned
from density.estimation.importance import log_likelihood
from density.model import LatentModel, as_data, check_gradients
from univae.errors import InputError
from univae.latent.sampling import from_noise

__all__ = ["Annealed", "Sandwich", "annealed", "sandwich", "sigmoid_path"]

Start: TypeAlias = Literal["prior", "posterior"]

PILOTS = 4  # chains a datum that tune its step size and are not averaged
FIRST_STEP = 0.2  # the step size before the tuning
STEEPNESS = 4.0  # of the path: its laws crowd at both ends


class Annealed(NamedTuple):
    """What C annealed chains say about each datum; log-densities in nats."""

    log_likelihood: Tensor  # estimate of log p(x): a lower bound in expectation
    standard_error: Tensor  # of log_likelihood, to first order
    effective_chains: Tensor  # between 1 and C
    acceptance: Tensor  # mean over chains and steps: near 0.65 where the tuning worked


class Sandwich(NamedTuple):
    """Bounds on log p(x), per datum simulated from the model, in nats: each holds in expectation."""

    lower: Tensor
    upper: Tensor

    @property
    def gap(self) -> Tensor:
        """Per datum.

        Its mean limits the mean error of the lower bound on data like the model's own.
        """
        return self.upper - self.lower

    @property
    def mean(self) -> tuple[float, float, float]:
        """Lower bound, upper bound and gap, averaged over the data."""
        return self.lower.mean().item(), self.upper.mean().item(), self.gap.mean().item()


@dataclass(frozen=True)
class _Path:
    """The geometric path of one batch of data.

    It starts from the prior where ``posterior`` is None.
    """

    model: LatentModel
    x: Tensor
    prior: Distribution
    posterior: Distribution | None

    def begin(self, chains: int) -> Float[Tensor, "chains B *event"]:
        if self.posterior is None:
            return self.prior.sample(Size((chains, self.x.shape[0])))
        return self.posterior.sample(Size((chains,)))

    def ends(self, z: Tensor) -> tuple[Float64[Tensor, "chains B"], Float64[Tensor, "chains B"]]:
        r"""Return :math:`\log p_0(z)` and :math:`\log p(x, z)`."""
        prior = self.prior.log_prob(z).double()
        base = prior if self.posterior is None else self.posterior.log_prob(z).double()
        return base, prior + self.model.likelihood(z).log_prob(self.x).double()

    def log_density(self, beta: float, z: Tensor) -> Float64[Tensor, "chains B"]:
        base, joint = self.ends(z)
        return (1 - beta) * base + beta * joint

    def rise(self, z: Tensor) -> Float64[Tensor, "chains B"]:
        base, joint = self.ends(z)
        return joint - base


@torch.no_grad()
def annealed(
    model: LatentModel, x: Tensor, steps: int, chains: int, *, start: Start = "prior"
) -> Annealed:
    r"""Estimate :math:`\log p(x)` by ``chains`` chains a datum, each over a path cut into ``steps``.

    The path starts from the prior or from the posterior :math:`q(z \mid x)`, where a trained
    encoder saves most of the steps. A step decodes (chains + 4) B rows 11 times with a gradient in
    z: the 4 pilot chains tune the step size of their datum, so that no kernel depends on the chains
    that are averaged and these stay unbiased. Call ``model.eval()`` first.
    """
    x = as_data(x, "annealed")
    path = _path(model, x, _flat_prior(model, "annealed", steps, chains), start)
    log_w, moves, _ = _walk(path, path.begin(PILOTS + chains), sigmoid_path(steps))
    log_w = log_w[PILOTS:]
    acceptance = moves[:, PILOTS:].mean((0, 1))
    return Annealed(
        log_likelihood(log_w), standard_error(log_w), effective_samples(log_w), acceptance
    )


@torch.no_grad()
def sandwich(
    model: LatentModel, count: int, steps: int, chains: int, *, start: Start = "prior"
) -> Sandwich:
    r"""Simulate ``count`` data from the model and bounds :math:`\log p(x)` of each from both sides.

    .. math:: z^* \sim p(z), \quad x \sim p(x \mid z^*), \qquad
              \log \bar w_{\text{forward}} \lesssim \log p(x) \lesssim -\log \bar w_{\text{reverse}}

    The reverse chains all start from :math:`z^*`, an exact draw of the posterior, and retrace the
    path with the step sizes of the forward ones. A small gap shows that ``steps`` and ``chains``
    suffice for this model.
    """
    if count < 1:
        raise InputError(f"sandwich: count must be at least 1; got count={count}")
    prior = _flat_prior(model, "sandwich", steps, chains)
    z = prior.sample(Size((count,)))
    betas = sigmoid_path(steps)
    path = _path(model, _simulate(model, z), prior, start)
    forward, _, sizes = _walk(path, path.begin(PILOTS + chains), betas)
    reverse, *_ = _walk(path, z.expand(chains, *z.shape), betas.flip(0), sizes[::-1])
    return Sandwich(log_likelihood(forward[PILOTS:]), -log_likelihood(reverse))


def sigmoid_path(steps: int) -> Float64[Tensor, "points"]:
    r"""Return :math:`\beta_t \propto \sigma(4 (2t/T - 1)) - \sigma(-4)` from 0 to 1.

    >>> sigmoid_path(4)
    tensor([0.0000, 0.1050, 0.5000, 0.8950, 1.0000], dtype=torch.float64)
    """
    s = (STEEPNESS * torch.linspace(-1, 1, steps + 1, dtype=torch.float64)).sigmoid()
    return (s - s[0]) / (s[-1] - s[0])


def _walk(
    path: _Path,
    z: Float[Tensor, "chains B *event"],
    betas: Float64[Tensor, "points"],
    replayed: Sequence[Tensor] | None = None,
) -> tuple[Float64[Tensor, "chains B"], Float[Tensor, "moves chains B"], list[Tensor]]:
    """Anneal along ``betas``: log-weights, acceptance and step sizes, these replayed or tuned on the first chains."""
    size = z.new_full(z.shape[1:2], FIRST_STEP)
    log_w = (betas[1] - betas[0]) * path.rise(z)
    moves = []
    sizes = []
    for t, (beta, following) in enumerate(pairwise(betas[1:].tolist())):
        sizes.append(size if replayed is None else replayed[t])
        z, probability = transition(partial(path.log_density, beta), z, sizes[-1])
        log_w = log_w + (following - beta) * path.rise(z)
        moves.append(probability)
        size = tuned(size, probability[:PILOTS])
    return log_w, torch.stack(moves), sizes


def _path(model: LatentModel, x: Tensor, prior: Distribution, start: Start) -> _Path:
    return _Path(model, x, prior, None if start == "prior" else model.posterior(x))


def _simulate(model: LatentModel, z: Tensor) -> Tensor:
    likelihood = model.likelihood(z)
    try:
        return likelihood.sample()
    except NotImplementedError as error:
        raise InputError(
            f"sandwich: simulates data, so model.likelihood(z) needs sample(); {type(likelihood).__name__} has none; "
            f"write it, or use annealed() on your data for the lower bound alone"
        ) from error


def _flat_prior(model: LatentModel, who: str, steps: int, chains: int) -> Distribution:
    """Return the prior, of latents that may move in all directions."""
    check_gradients(who)
    if steps < 2 or chains < 1:
        raise InputError(
            f"{who}: needs at least 2 steps and 1 chain; got steps={steps}, chains={chains}; one step would be "
            f"importance sampling: use estimate()"
        )
    prior = model.prior()
    if not _is_flat(prior):
        raise InputError(
            f"{who}: Hamiltonian moves need latents on all of R^d, so a prior with a real support or one that maps "
            f"normal noise; got {type(prior).__name__}; use estimate(), with Defensive() where the posterior is poor"
        )
    return prior


def _is_flat(prior: Distribution) -> bool:
    """Tell whether every vector is a latent.

    A prior that names no support must be a map of normal noise.
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
