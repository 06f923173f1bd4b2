"""The prior, posterior and likelihood of a Pyro model and its guide for one batch of data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from density.pyro_checks import require_local
from density.pyro_elimination import Factor, factor, marginal
from density.pyro_sites import LatentSite
from density.pyro_traces import (
    Program,
    Trace,
    is_deterministic,
    is_enumerated,
    run,
    sample_nodes,
)
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["Likelihood", "Posterior", "Prior", "PyroDistributions"]

SAMPLED_DIMS = 3  # of latents (K, B, d)


class _Scores(NamedTuple):
    """The log-densities of one run of the model on z and x."""

    z: Tensor
    x: Tensor
    log_prior: Tensor
    log_likelihood: Tensor


@dataclass
class PyroDistributions:
    """A model and its guide for one batch of data, with the latent sites of the guide."""

    model: Program
    guide: Program
    x: Tensor
    sites: list[LatentSite]
    # of the last run: prior and likelihood of one z take one run of the model
    _scores: _Scores | None = field(default=None, init=False)

    @property
    def width(self) -> int:
        """The dimension d of a flat latent."""
        return sum(site.width for site in self.sites)

    def values(self, z: Float[Tensor, "K B d"]) -> list[Tensor]:
        """Return the values of the sites of a flat latent."""
        site_latents = z.split([site.width for site in self.sites], -1)
        values = []
        for site, flat in zip(self.sites, site_latents, strict=True):
            values.append(flat.reshape(*flat.shape[:-1], *site.shape).to(site.dtype))
        return values

    def flat(self, trace: Trace, samples: int) -> Float[Tensor, "K B d"]:
        """Return the flat latent of a trace under a plate of ``samples`` particles."""
        count = len(self.x)
        flat_values = []
        for site in self.sites:
            value = trace.nodes[site.name]["value"].expand(samples, count, *site.shape)
            flat_values.append(at_least_float32(value.reshape(samples, count, -1)))
        return torch.cat(flat_values, -1)

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
        values = dict(zip(names, self.values(z), strict=True))
        trace = run(self.model, x, z.shape[0], values, enumerated=True)
        latent, observed = _factors(trace, names, z.shape[1])
        missing = sorted(set(names) - trace.nodes.keys())
        if missing:
            raise InputError(
                f"from_pyro: the guide draws {', '.join(missing)}, which the model lacks; "
                "give both the same latent sites"
            )
        if not observed:
            raise InputError("from_pyro: the model observes nothing; give a site obs=x")

        shape = (z.shape[0], z.shape[1])
        log_prior = marginal(latent, shape)
        log_joint = marginal([*latent, *observed], shape)
        return _Scores(z, x, log_prior, log_joint - log_prior)


class _ProgramDistribution(Distribution):
    """The base class of the three distributions, without checks of arguments."""

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(
        self, program: PyroDistributions, batch_shape: Sequence[int], event_shape: Sequence[int]
    ) -> None:
        self.program = program
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

    def __init__(self, program: PyroDistributions) -> None:
        super().__init__(program, (len(program.x),), (program.width,))

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw flat latents."""
        return self.rsample_with_log_prob(sample_shape)[0]

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = Size()) -> tuple[Tensor, Tensor]:
        """Draw flat latents with their log-density, from one run of the guide."""
        samples = math.prod(sample_shape)
        trace = run(self.program.guide, self.program.x, samples, {})
        z = self.program.flat(trace, samples)
        log_q = self._log_density(trace, z)
        return z.view(*sample_shape, *z.shape[1:]), log_q.view(*sample_shape, z.shape[1])

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of flat latents, from one run of the guide."""
        z = _with_one_sample_axis(value)
        conditions: dict[str, Tensor] = {}
        for site, site_value in zip(self.program.sites, self.program.values(z), strict=True):
            conditions |= site.condition(site_value)
        trace = run(self.program.guide, self.program.x, z.shape[0], conditions)
        return self._log_density(trace, z).reshape(value.shape[:-1])

    def _log_density(self, trace: Trace, z: Float[Tensor, "K B d"]) -> Float[Tensor, "K B"]:
        log_q = torch.zeros(z.shape[:2], device=z.device)
        for site in self.program.sites:
            log_q = log_q + site.log_density(trace)
        return log_q


class Prior(_ProgramDistribution):
    """The model's distribution of flat latents beside the data of x, (B, d)."""

    def __init__(self, program: PyroDistributions) -> None:
        super().__init__(program, (len(program.x),), (program.width,))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of flat latents, of as many data as in x."""
        z = _with_one_sample_axis(value)
        return self.program.log_densities(z, self.program.x).log_prior.reshape(value.shape[:-1])

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw flat latents by running the model beside the data: sites may depend on them.

        What the model enumerates is drawn too.
        """
        samples = math.prod(sample_shape)
        trace = run(self.program.model, self.program.x, samples, {})
        z = self.program.flat(trace, samples)
        return z.view(*sample_shape, *z.shape[1:])


class Likelihood(_ProgramDistribution):
    """The model's distribution of the data given flat latents, without samples."""

    def __init__(self, program: PyroDistributions, z: Tensor) -> None:
        self.z = z
        super().__init__(program, z.shape[:-1], program.x.shape[1:])

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-likelihood of the data ``value``."""
        z = _with_one_sample_axis(self.z)
        scores = self.program.log_densities(z, value)
        return scores.log_likelihood.reshape(self.z.shape[:-1])


def _factors(
    trace: Trace, latent_names: Sequence[str], count: int
) -> tuple[list[Factor], list[Factor]]:
    """Return the log-probabilities of a model's latent sites, enumerated or not, and of the others.

    Raises:
        InputError: a site belongs to no datum, or has no value.
    """
    latent = []
    observed = []
    for name, node in sample_nodes(trace).items():
        if is_deterministic(node):
            continue
        require_local("model", name, node, count)
        if name in latent_names or is_enumerated(node):
            latent.append(factor(name, node))
        elif node["is_observed"]:
            observed.append(factor(name, node))
        else:
            raise InputError(
                f"from_pyro: site {name!r} of the model is neither observed nor in the guide; "
                'add it to the guide, or, if it is discrete, set infer={"enumerate": "parallel"}'
            )
    return latent, observed


def _with_one_sample_axis(z: Tensor) -> Tensor:
    """Return latents as (K, B, d); the same object if they have this shape."""
    return z if z.dim() == SAMPLED_DIMS else z.reshape(-1, *z.shape[-2:])
