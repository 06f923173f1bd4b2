r"""Pyro models and guides with one data plate as a ``LatentModel``: weights per datum.

The guide is the posterior. Under an outer plate of K particles its sites and those of the model
have log-probabilities of shape (K, B), which are added and not summed:

.. math:: \log w = \sum_{\text{model sites}} \log p - \sum_{\text{guide sites}} \log q

Discrete sites that the model marks for enumeration and the guide leaves out are summed over
exactly. Pyro's own ``vectorized_importance_weights`` sums over the data plate as well, which gives
the weight of the whole batch.

References:
    Pyro: Deep Universal Probabilistic Programming (Bingham et al., 2018),
    https://arxiv.org/abs/1810.09538
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution

from density.pyro_sites import (
    LatentSite,
    Program,
    Trace,
    latent_sites,
    require_local,
    run,
    sample_nodes,
)
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["PyroModel", "from_pyro"]

SAMPLED_DIMS = 3  # of latents (K, B, d)


def from_pyro(model: Callable[..., Any], guide: Callable[..., Any]) -> "PyroModel":
    r"""Return ``model(x)`` and ``guide(x)``, callables or ``PyroModule``\ s, as a ``LatentModel``.

    Both are called with a batch x of B data. Every latent site of the guide, and every observed
    site of the model, must lie in one plate over the data, at ``dim=-1`` and without subsampling;
    leave ``dim=-2`` and beyond free. Train them with Pyro's ELBOs, ``Trace_ELBO()(model, guide)``
    being a module for any torch optimizer.

    Of Pyro's automatic guides ``AutoNormal`` draws each datum by itself. Its site ``z`` is a point
    at the value of the auxiliary site ``z_unconstrained``, whose density and Jacobian make up that
    of z; a guide of one's own may do so with the same names. Those that draw the latents of all
    data jointly, and point masses, have no density per datum and are refused when they are first
    run.
    """
    return PyroModel(model, guide)


class PyroModel:
    """The three distributions of a Pyro program.

    Latents z are flat, (K, B, d), in the order in which the guide draws them. A program runs on
    data only: the prior and the likelihood are those beside the data of the last
    :meth:`posterior`, see :meth:`beside`.
    """

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any]) -> None:
        self.model = model
        self.guide = guide
        self._last: PyroDistributions | None = None

    def beside(self, x: Tensor) -> "PyroDistributions":
        """Return the distributions beside the data ``x``; runs the guide once to find its sites.

        Raises:
            InputError: a site of the guide has no density per datum.
        """
        sites = latent_sites(self.model, self.guide, x)
        return PyroDistributions(self.model, self.guide, x, sites)

    def posterior(self, x: Tensor) -> "Posterior":
        """Return the guide's distribution of z, and keep ``x`` for prior and likelihood."""
        self._last = self.beside(x)
        return Posterior(self._last)

    def prior(self) -> "Prior":
        """Return p(z) beside the data of the last :meth:`posterior`.

        Raises:
            InputError: there was none.
        """
        return Prior(self._beside_last())

    def likelihood(self, z: Float[Tensor, "*sample B d"]) -> "Likelihood":
        """Return p(x | z), for data of the shape of the last :meth:`posterior`.

        Raises:
            InputError: there was none.
        """
        return Likelihood(self._beside_last(), z)

    def _beside_last(self) -> "PyroDistributions":
        if self._last is None:
            raise InputError(
                "from_pyro: the prior is only known beside data; call posterior(x) first"
            )
        return self._last


class _Scores(NamedTuple):
    """The log-densities of one run of the model on z and x."""

    z: Tensor
    x: Tensor
    log_prior: Tensor
    log_likelihood: Tensor


@dataclass
class PyroDistributions:
    """A model and its guide beside one batch of data, with the latent sites of the guide."""

    model: Program
    guide: Program
    x: Tensor
    sites: list[LatentSite]
    # one run of the model gives both log-densities, which are asked for one after the other
    _scores: _Scores | None = field(default=None, init=False)

    @property
    def width(self) -> int:
        """The dimension d of a flat latent."""
        return sum(site.width for site in self.sites)

    def values(self, z: Float[Tensor, "K B d"]) -> list[Tensor]:
        """Return the values of the sites of a flat latent."""
        parts = z.split([site.width for site in self.sites], -1)
        values = []
        for site, part in zip(self.sites, parts, strict=True):
            values.append(part.reshape(*part.shape[:-1], *site.shape).to(site.dtype))
        return values

    def log_densities(self, z: Float[Tensor, "K B d"], x: Tensor) -> _Scores:
        r"""Return :math:`\log p(z)` and :math:`\log p(x \mid z)`, (K, B) each, of one run.

        Raises:
            InputError: the model lacks a site of the guide, has an unobserved site that the guide
                lacks, or observes nothing.
        """
        scores = self._scores
        if scores is None or scores.z is not z or scores.x is not x:
            scores = self._run_model(z, x)
            self._scores = scores
        return scores

    def _run_model(self, z: Float[Tensor, "K B d"], x: Tensor) -> _Scores:
        names = [site.name for site in self.sites]
        trace = run(self.model, x, z.shape[0], dict(zip(names, self.values(z), strict=True)))
        latent, observed, enumerated = _log_probs(trace, names, z.shape[1])
        missing = sorted(set(names) - trace.nodes.keys())
        if missing:
            raise InputError(
                f"from_pyro: the guide draws {', '.join(missing)}, which the model does not have"
            )
        if not observed:
            raise InputError("from_pyro: the model observes nothing; give a site obs=x")

        shape = (z.shape[0], z.shape[1])
        log_prior = _marginal([*latent, *enumerated], shape)
        log_joint = _marginal([*latent, *enumerated, *observed], shape)
        return _Scores(z, x, log_prior, log_joint - log_prior)


class _ProgramDistribution(Distribution):
    """The base class of the three distributions, without checks of arguments."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, beside: PyroDistributions, batch_shape: Sequence[int], event_shape: Sequence[int]
    ) -> None:
        self.beside = beside
        super().__init__(Size(batch_shape), Size(event_shape), validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Raise ``NotImplementedError``, unless a subclass draws."""
        raise NotImplementedError

    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)


class Posterior(_ProgramDistribution):
    """The guide's distribution of flat latents, (B, d)."""

    has_rsample = True  # where the guide's sites have it

    def __init__(self, beside: PyroDistributions) -> None:
        super().__init__(beside, (len(beside.x),), (beside.width,))

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw flat latents."""
        return self.rsample_with_log_prob(sample_shape)[0]

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = Size()) -> tuple[Tensor, Tensor]:
        """Draw flat latents with their log-density, from one run of the guide."""
        samples = math.prod(sample_shape)
        x = self.beside.x
        count = len(x)
        trace = run(self.beside.guide, x, samples, {})
        parts = []
        log_q = torch.zeros((samples, count), device=x.device)
        for site in self.beside.sites:
            value = trace.nodes[site.name]["value"].expand(samples, count, *site.shape)
            parts.append(at_least_float32(value.reshape(samples, count, -1)))
            log_q = log_q + site.log_density(trace)
        z = torch.cat(parts, -1)
        return z.view(*sample_shape, *z.shape[1:]), log_q.view(*sample_shape, count)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of flat latents, from one run of the guide."""
        z = _with_one_sample_axis(value)
        conditions: dict[str, Tensor] = {}
        for site, site_value in zip(self.beside.sites, self.beside.values(z), strict=True):
            conditions |= site.condition(site_value)
        trace = run(self.beside.guide, self.beside.x, z.shape[0], conditions)
        log_q = torch.zeros(z.shape[:2], device=z.device)
        for site in self.beside.sites:
            log_q = log_q + site.log_density(trace)
        return log_q.reshape(value.shape[:-1])


class Prior(_ProgramDistribution):
    """The model's distribution of flat latents, (d,)."""

    def __init__(self, beside: PyroDistributions) -> None:
        super().__init__(beside, (), (beside.width,))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of flat latents, of as many data as the model is beside."""
        z = _with_one_sample_axis(value)
        return self.beside.log_densities(z, self.beside.x).log_prior.reshape(value.shape[:-1])

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw flat latents beside copies of the first datum, whose value no latent depends on."""
        from pyro import poutine

        count = math.prod(sample_shape)
        x = self.beside.x
        copies = x[:1].expand(count, *x.shape[1:])
        trace = run(poutine.uncondition(self.beside.model), copies, 1, {})
        parts = []
        for site in self.beside.sites:
            value = trace.nodes[site.name]["value"]
            parts.append(at_least_float32(value.reshape(count, -1)))
        return torch.cat(parts, -1).view(*sample_shape, -1)


class Likelihood(_ProgramDistribution):
    """The model's distribution of the data given flat latents, which scores and does not draw."""

    def __init__(self, beside: PyroDistributions, z: Tensor) -> None:
        self.z = z
        super().__init__(beside, z.shape[:-1], beside.x.shape[1:])

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-likelihood of the data ``value``."""
        z = _with_one_sample_axis(self.z)
        scores = self.beside.log_densities(z, value)
        return scores.log_likelihood.reshape(self.z.shape[:-1])


def _log_probs(
    trace: Trace, latent_names: Sequence[str], count: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return the log-probabilities of a model's latent, observed and enumerated sites."""
    latent = []
    observed = []
    enumerated = []
    for name, node in sample_nodes(trace).items():
        if node["infer"].get("_deterministic"):
            continue
        require_local("model", name, node, count)
        if name in latent_names:
            latent.append(node["log_prob"])
        elif node["is_observed"]:
            observed.append(node["log_prob"])
        elif node["infer"].get("_enumerate_dim") is not None:
            enumerated.append(node["log_prob"])
        else:
            raise InputError(
                f"from_pyro: site {name!r} of the model is neither observed nor in the guide; "
                "add it to the guide, or enumerate it if it is discrete"
            )
    return latent, observed, enumerated


def _marginal(log_probs: Sequence[Tensor], shape: tuple[int, int]) -> Tensor:
    """Return the sum of log-probabilities, (K, B), with enumerated values summed out."""
    total = torch.zeros(shape, device=log_probs[0].device)
    for term in log_probs:
        total = total + term
    if total.dim() == len(shape):
        return total
    return total.flatten(0, -len(shape) - 1).logsumexp(0)


def _with_one_sample_axis(z: Tensor) -> Tensor:
    """Return latents as (K, B, d); the same object where they are so already."""
    return z if z.dim() == SAMPLED_DIMS else z.reshape(-1, *z.shape[-2:])
