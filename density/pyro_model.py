r"""Any Pyro model and guide with one data plate as a ``LatentModel``: weights per datum, never of a whole batch.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, Transform, biject_to

from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["PyroModel", "from_pyro"]

PARTICLES = "_density_particles"  # the name of the outer plate
# what Pyro's automatic guides add to a site's name for its auxiliary site
UNCONSTRAINED = "_unconstrained"


def from_pyro(model: Callable[..., Any], guide: Callable[..., Any]) -> "PyroModel":
    """Make a ``LatentModel`` of ``model(x)`` and ``guide(x)``, callables or ``PyroModule``\\ s.

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


@dataclass(frozen=True)
class _Site:
    """A latent site of the guide, and its place in the flat latent."""

    name: str
    shape: Size  # of its event
    dtype: torch.dtype
    # from the auxiliary site NAME_unconstrained to it, where it is a point there
    transform: Transform | None = None

    @property
    def auxiliary(self) -> str:
        return self.name + UNCONSTRAINED

    @property
    def width(self) -> int:
        return math.prod(self.shape)


class PyroModel:
    """The three laws of a Pyro program.

    Latents z are flat, (K, B, d), in the order in which the guide draws them.
    """

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any]) -> None:
        self.model = model
        self.guide = guide
        self._x: Tensor | None = None
        self._sites: list[_Site] = []
        # z, log p(z), log p(x | z) of the last run
        self._scored: tuple[Tensor, Tensor, Tensor] | None = None

    def prior(self) -> Distribution:
        """Return p(z) as the model has it beside the data of the last :meth:`posterior`."""
        return _Prior(self)

    def posterior(self, x: Tensor) -> Distribution:
        """Return the guide's law; runs the guide once to learn its sites."""
        self._x = x
        self._scored = None
        return _Posterior(self, x)

    def likelihood(self, z: Float[Tensor, "*sample B d"]) -> Distribution:
        """Return p(x | z)."""
        return _Likelihood(self, z)

    def learn_sites(self, x: Tensor) -> None:
        """Run the guide once and note its latent sites.

        Refuse those that do not belong to one datum each.
        """
        with torch.no_grad():
            if getattr(self.guide, "prototype_trace", self) is None:
                # an automatic guide reads its model in its first call, which must not be under our
                # plate
                self.guide(x)
            trace = self.run(self.guide, x, 1, {})
        drawn = _samples(trace)
        if not drawn:
            raise InputError(
                "from_pyro: the guide draws nothing; give it a sample site for every latent of the model"
            )
        for name, site in drawn.items():
            self._require_density(name, site, drawn, len(x))
        points = [name for name, site in drawn.items() if _is_point(site)]
        supports = self._supports(x) if points else {}
        self._sites = []
        for name, site in drawn.items():
            if site["infer"].get("is_auxiliary"):
                continue
            event = site["value"].shape[site["value"].dim() - site["fn"].event_dim :]
            transform = biject_to(supports[name]) if name in points and name in supports else None
            self._sites.append(_Site(name, event, site["value"].dtype, transform))

    def _require_density(
        self, name: str, site: Mapping[str, Any], drawn: Mapping[str, Any], count: int
    ) -> None:
        """Raise unless the site has a density per datum, or is a point at the value of its auxiliary site."""
        if site["infer"].get("is_auxiliary"):
            if not _in_a_plate(site):
                what = f"the guide draws the latents of all data jointly, by its site {name!r}"
                raise InputError(
                    f"from_pyro: {what}, which gives no density per datum; use AutoNormal"
                )
            if (
                name.removesuffix(UNCONSTRAINED) == name
                or name.removesuffix(UNCONSTRAINED) not in drawn
            ):
                what = f"the guide's auxiliary site {name!r} belongs to no site of the model"
                raise InputError(
                    f"from_pyro: {what}; name it SITE{UNCONSTRAINED}, or draw the site itself"
                )
        elif _is_point(site) and name + UNCONSTRAINED not in drawn:
            what = f"the guide's site {name!r} is a point, and a point has no density to weigh its draws by"
            raise InputError(
                f"from_pyro: {what}; use AutoNormal, or draw it from a distribution with a density"
            )
        self._require_local("guide", name, site, count)

    def _supports(self, x: Tensor) -> dict[str, Any]:
        """Return the supports of the model's latent sites."""
        with torch.no_grad():
            trace = self.run(self.model, x, 1, {})
        return {name: site["fn"].support for name, site in _samples(trace).items()}

    def values(self, z: Float[Tensor, "K B d"]) -> dict[str, Tensor]:
        """A flat latent as values of its sites."""
        parts = z.split([site.width for site in self._sites], -1)
        return {
            site.name: part.reshape(*part.shape[:-1], *site.shape).to(site.dtype)
            for site, part in zip(self._sites, parts, strict=True)
        }

    def run(
        self, program: Callable[..., Any], x: Tensor, samples: int, values: Mapping[str, Tensor]
    ) -> Any:
        """A trace of ``program(x)`` under a plate of particles, its sites given or drawn, discrete ones enumerated."""
        import pyro
        from pyro import poutine

        conditioned = poutine.condition(program, data=dict(values)) if values else program
        plated = pyro.plate(PARTICLES, samples, dim=-2)(
            poutine.enum(conditioned, first_available_dim=-3)
        )
        trace = poutine.trace(plated).get_trace(x)
        trace.compute_log_prob()
        return trace

    def score(self, z: Float[Tensor, "K B d"], x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return :math:`\log p(z)` and :math:`\log p(x \mid z)`, (K, B) each, from one run of the model."""
        if self._scored is not None and self._scored[0] is z and self._x is x:
            return self._scored[1], self._scored[2]
        values = self.values(z)
        trace = self.run(self.model, x, z.shape[0], values)
        latents = []
        observed = []
        hidden = []
        for name, site in trace.nodes.items():
            if (
                site["type"] != "sample"
                or name == PARTICLES
                or _is_plate(site)
                or _is_deterministic(site)
            ):
                continue
            self._require_local("model", name, site, z.shape[1])
            if name in values:
                latents.append(site["log_prob"])
            elif site["is_observed"]:
                observed.append(site["log_prob"])
            elif site["infer"].get("_enumerate_dim") is not None:
                hidden.append(site["log_prob"])
            else:
                what = f"site {name!r} of the model is neither observed nor in the guide"
                raise InputError(
                    f"from_pyro: {what}; add it to the guide, or enumerate it if it is discrete"
                )
        if missing := sorted(values.keys() - trace.nodes.keys()):
            raise InputError(
                f"from_pyro: the guide draws {', '.join(missing)}, which the model does not have"
            )
        if not observed:
            raise InputError("from_pyro: the model observes nothing; give a site obs=x")
        shape = (z.shape[0], z.shape[1])
        prior = _marginal([*latents, *hidden], shape)
        joint = _marginal([*latents, *hidden, *observed], shape)
        self._x = x
        self._scored = (z, prior, joint - prior)
        return prior, joint - prior

    @property
    def seen(self) -> Tensor:
        """The data of the last posterior."""
        if self._x is None:
            raise InputError(
                "from_pyro: the prior is only known beside data; call posterior(x) first"
            )
        return self._x

    @staticmethod
    def _require_local(where: str, name: str, site: Mapping[str, Any], count: int) -> None:
        frames = [
            frame
            for frame in site["cond_indep_stack"]
            if frame.name != PARTICLES and frame.vectorized
        ]
        problem = ""
        if not any(frame.dim == -1 for frame in frames):
            problem = "lies outside the data plate, so its log-probability belongs to no datum"
        elif any(frame.dim != -1 for frame in frames):
            problem = "lies in a second plate; use .to_event() for what is inside a datum"
        elif any(frame.size != count or site["scale"] != 1 for frame in frames):
            problem = f"lies in a plate that is not the {count} data at hand; do not subsample"
        if problem:
            raise InputError(
                f"from_pyro: site {name!r} of the {where} {problem}; use one plate of len(x) at dim=-1"
            )


class _Flat(Distribution):
    # What the three laws share: no checks of arguments, which are a program's.
    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, owner: PyroModel, batch: Sequence[int], event: Sequence[int]) -> None:
        self.owner = owner
        super().__init__(Size(batch), Size(event), validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        raise NotImplementedError

    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)


class _Posterior(_Flat):
    has_rsample = True  # as far as the guide's own sites have it

    def __init__(self, owner: PyroModel, x: Tensor) -> None:
        self.x = x
        owner.learn_sites(x)
        super().__init__(owner, (len(x),), (sum(site.width for site in owner._sites),))

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        return self.rsample_with_log_prob(sample_shape)[0]

    def rsample_with_log_prob(self, sample_shape: Sequence[int] = Size()) -> tuple[Tensor, Tensor]:
        """Draw every latent site with its log-probability, from one run of the guide."""
        samples = math.prod(sample_shape)
        batch = self.batch_shape[0]
        trace = self.owner.run(self.owner.guide, self.x, samples, {})
        parts = []
        log_q = torch.zeros((samples, batch), device=self.x.device)
        for site in self.owner._sites:
            node = trace.nodes[site.name]
            value = node["value"].expand(samples, batch, *site.shape)
            parts.append(at_least_float32(value.reshape(samples, batch, -1)))
            log_q = log_q + _log_density(trace, site)
        z = torch.cat(parts, -1)
        return z.view(*sample_shape, *z.shape[1:]), log_q.view(*sample_shape, batch)

    def log_prob(self, value: Tensor) -> Tensor:
        z, lead = _three(value)
        values = self.owner.values(z)
        for site in self.owner._sites:
            if site.transform is not None:  # the point follows from its auxiliary site
                values[site.auxiliary] = site.transform.inv(values.pop(site.name))
        trace = self.owner.run(self.owner.guide, self.x, z.shape[0], values)
        log_q = torch.zeros(z.shape[:2], device=z.device)
        for site in self.owner._sites:
            log_q = log_q + _log_density(trace, site)
        return log_q.reshape(lead)


class _Prior(_Flat):
    def __init__(self, owner: PyroModel) -> None:
        super().__init__(owner, (), (sum(site.width for site in owner._sites),))

    def log_prob(self, value: Tensor) -> Tensor:
        z, lead = _three(value)
        return self.owner.score(z, self.owner.seen)[0].reshape(lead)

    def rsample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Latents of the model beside copies of the first datum, whose value no site of the prior sees."""
        from pyro import poutine

        count = math.prod(sample_shape)
        x = self.owner.seen[:1].expand(count, *self.owner.seen.shape[1:])
        trace = self.owner.run(poutine.uncondition(self.owner.model), x, 1, {})
        parts = [trace.nodes[site.name]["value"].reshape(count, -1) for site in self.owner._sites]
        z = torch.cat([at_least_float32(part) for part in parts], -1)
        return z.view(*sample_shape, -1)


class _Likelihood(_Flat):
    def __init__(self, owner: PyroModel, z: Tensor) -> None:
        self.z = z
        super().__init__(owner, z.shape[:-1], owner.seen.shape[1:])

    def log_prob(self, value: Tensor) -> Tensor:
        z, lead = _three(self.z)
        return self.owner.score(z, value)[1].reshape(lead)


def _three(z: Tensor) -> tuple[Tensor, Size]:
    """A latent with one sample axis, the same object if it has one, and its leading shape."""
    return (z if z.dim() == 3 else z.reshape(-1, *z.shape[-2:])), z.shape[:-1]


def _samples(trace: Any) -> dict[str, dict[str, Any]]:
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and not _is_plate(site)
    }


def _log_density(trace: Any, site: _Site) -> Tensor:
    """Return a site's log-density.

    For a point, its auxiliary site's and the Jacobian, which the point carries.
    """
    log_density: Tensor = trace.nodes[site.name]["log_prob"]
    return (
        log_density
        if site.transform is None
        else log_density + trace.nodes[site.auxiliary]["log_prob"]
    )


def _is_point(site: Mapping[str, Any]) -> bool:
    law = site["fn"]
    while hasattr(law, "base_dist") and type(law).__name__ != "TransformedDistribution":
        law = law.base_dist
    return type(law).__name__ == "Delta"


def _in_a_plate(site: Mapping[str, Any]) -> bool:
    return any(frame.name != PARTICLES and frame.vectorized for frame in site["cond_indep_stack"])


def _is_deterministic(site: Mapping[str, Any]) -> bool:
    return bool(site["infer"].get("_deterministic"))


def _is_plate(site: Mapping[str, Any]) -> bool:
    return type(site["fn"]).__name__ == "_Subsample"


def _marginal(log_p: Sequence[Tensor], shape: tuple[int, int]) -> Tensor:
    """Add log-probabilities, broadcast over enumerated values, and sums those out, whatever their axes."""
    total = torch.zeros(shape, device=log_p[0].device)
    for term in log_p:
        total = total + term
    return total.flatten(0, -3).logsumexp(0) if total.dim() > 2 else total
