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

from density.pyro_sites import LatentSite, Program, Trace, require_local, run, sample_nodes
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
                f"from_pyro: the guide draws {', '.join(missing)}, which the model lacks; "
                "give both the same latent sites"
            )
        if not observed:
            raise InputError("from_pyro: the model observes nothing; give a site obs=x")

        shape = (z.shape[0], z.shape[1])
        log_prior = _marginal([*latent, *enumerated], shape)
        log_joint = _marginal([*latent, *enumerated, *observed], shape)
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
        x = self.program.x
        count = len(x)
        trace = run(self.program.guide, x, samples, {})
        flat_values = []
        log_q = torch.zeros((samples, count), device=x.device)
        for site in self.program.sites:
            value = trace.nodes[site.name]["value"].expand(samples, count, *site.shape)
            flat_values.append(at_least_float32(value.reshape(samples, count, -1)))
            log_q = log_q + site.log_density(trace)
        z = torch.cat(flat_values, -1)
        return z.view(*sample_shape, *z.shape[1:]), log_q.view(*sample_shape, count)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of flat latents, from one run of the guide."""
        z = _with_one_sample_axis(value)
        conditions: dict[str, Tensor] = {}
        for site, site_value in zip(self.program.sites, self.program.values(z), strict=True):
            conditions |= site.condition(site_value)
        trace = run(self.program.guide, self.program.x, z.shape[0], conditions)
        log_q = torch.zeros(z.shape[:2], device=z.device)
        for site in self.program.sites:
            log_q = log_q + site.log_density(trace)
        return log_q.reshape(value.shape[:-1])


class Prior(_ProgramDistribution):
    """The model's distribution of flat latents, (d,)."""

    def __init__(self, program: PyroDistributions) -> None:
        super().__init__(program, (), (program.width,))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of flat latents, of as many data as in x."""
        z = _with_one_sample_axis(value)
        return self.program.log_densities(z, self.program.x).log_prior.reshape(value.shape[:-1])

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw flat latents by running the model on copies of the first datum, unconditioned."""
        from pyro import poutine

        count = math.prod(sample_shape)
        x = self.program.x
        copies = x[:1].expand(count, *x.shape[1:])
        trace = run(poutine.uncondition(self.program.model), copies, 1, {})
        flat_values = []
        for site in self.program.sites:
            value = trace.nodes[site.name]["value"]
            flat_values.append(at_least_float32(value.reshape(count, -1)))
        return torch.cat(flat_values, -1).view(*sample_shape, -1)


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
    """Return latents as (K, B, d); the same object if they have this shape."""
    return z if z.dim() == SAMPLED_DIMS else z.reshape(-1, *z.shape[-2:])
