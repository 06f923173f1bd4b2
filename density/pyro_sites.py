"""Latent sites of Pyro programs that run under a plate of particles, and checks of them.

Under an outer plate of K particles a site beside B data has a log-probability of shape (K, B).

References:
    Pyro: Deep Universal Probabilistic Programming (Bingham et al., 2018),
    https://arxiv.org/abs/1810.09538
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Size, Tensor
from torch.distributions import Transform, TransformedDistribution, biject_to
from torch.distributions.constraints import Constraint

from univae.errors import InputError

__all__ = [
    "LatentSite",
    "Node",
    "Program",
    "Trace",
    "latent_sites",
    "require_local",
    "run",
    "sample_nodes",
]

Program: TypeAlias = Callable[..., object]  # a model or guide of one batch of data
Node: TypeAlias = Mapping[str, Any]  # a site of a trace: Pyro's dictionary of mixed values

SAMPLE = "sample"  # the type of a node that draws or observes a value
PARTICLES = "_density_particles"  # the name of the outer plate
# suffix of an auxiliary site's name in Pyro's automatic guides
UNCONSTRAINED = "_unconstrained"


@runtime_checkable
class Frame(Protocol):
    """A plate around a site."""

    name: str
    dim: int
    size: int
    vectorized: bool


@runtime_checkable
class Trace(Protocol):
    """A run of a program: its sites by name, in order."""

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The sites by name."""
        ...

    def compute_log_prob(self) -> None:
        """Add the log-probability of each site to its dictionary."""
        ...


@dataclass(frozen=True)
class LatentSite:
    """A latent site of a guide."""

    name: str
    shape: Size  # of its event
    dtype: torch.dtype
    # from the auxiliary site, for a site that is a point at its transformed value
    transform: Transform | None = None

    @property
    def auxiliary(self) -> str:
        """The name of its auxiliary site."""
        return self.name + UNCONSTRAINED

    @property
    def width(self) -> int:
        """The numbers in one value."""
        return math.prod(self.shape)

    def condition(self, value: Tensor) -> dict[str, Tensor]:
        """Return the conditions of a guide, by site name, under which this site has ``value``."""
        if self.transform is None:
            return {self.name: value}
        return {self.auxiliary: self.transform.inv(value)}

    def log_density(self, trace: Trace) -> Tensor:
        """Return the log-density in a trace of the guide, (K, B).

        That of a point is its auxiliary site's plus the Jacobian, which Pyro's point carries.
        """
        log_density: Tensor = trace.nodes[self.name]["log_prob"]
        if self.transform is None:
            return log_density
        auxiliary_log_density: Tensor = trace.nodes[self.auxiliary]["log_prob"]
        return log_density + auxiliary_log_density


def run(program: Program, x: Tensor, samples: int, values: Mapping[str, Tensor]) -> Trace:
    """Run ``program(x)`` under a plate of ``samples`` particles and return its trace.

    Sites in ``values`` have these values, discrete ones marked for enumeration are enumerated, the
    others are drawn.
    """
    import pyro
    from pyro import poutine

    conditioned = poutine.condition(program, data=dict(values)) if values else program
    enumerated = poutine.enum(conditioned, first_available_dim=-3)
    plated = pyro.plate(PARTICLES, samples, dim=-2)(enumerated)
    trace: Trace = poutine.trace(plated).get_trace(x)
    trace.compute_log_prob()
    return trace


def sample_nodes(trace: Trace) -> dict[str, Node]:
    """Return the sample sites of a trace, without plates."""
    from pyro.poutine.subsample_messenger import _Subsample

    nodes = {}
    for name, node in trace.nodes.items():
        if node["type"] == SAMPLE and not isinstance(node["fn"], _Subsample):
            nodes[name] = node
    return nodes


def latent_sites(model: Program, guide: Program, x: Tensor) -> list[LatentSite]:
    """Run the guide once and return its latent sites, in the order in which it draws them.

    Raises:
        InputError: the guide draws nothing, or a site has no density per datum.
    """
    with torch.no_grad():
        _initialise(guide, x)
        nodes = _unobserved_nodes(run(guide, x, 1, {}))
    if not nodes:
        raise InputError(
            "from_pyro: the guide draws nothing; "
            "give it a sample site for every latent of the model"
        )
    for name, node in nodes.items():
        _require_density(name, nodes)
        require_local("guide", name, node, len(x))

    supports = {}
    if any(_is_point(node) for node in nodes.values()):
        supports = _supports(model, x)
    sites = []
    for name, node in nodes.items():
        if _is_auxiliary(node):
            continue
        value = node["value"]
        event_shape = value.shape[value.dim() - node["fn"].event_dim :]
        transform = None
        if _is_point(node) and name in supports:
            transform = biject_to(supports[name])
        sites.append(LatentSite(name, event_shape, value.dtype, transform))
    return sites


def require_local(program: str, name: str, node: Node, count: int) -> None:
    """Raise :class:`InputError` unless a site lies in one plate of ``count`` data, and in no other.

    ``program``, model or guide, is part of the message.
    """
    frames = _plates(node)
    problem = ""
    if not any(frame.dim == -1 for frame in frames):
        problem = "lies outside the data plate, so its log-probability belongs to no datum"
    elif any(frame.dim != -1 for frame in frames):
        problem = "lies in a second plate; use .to_event() for what is inside a datum"
    elif any(frame.size != count or node["scale"] != 1 for frame in frames):
        problem = f"lies in a plate that is not the {count} data of the batch; do not subsample"
    if problem:
        raise InputError(
            f"from_pyro: site {name!r} of the {program} {problem}; "
            "use one plate of len(x) at dim=-1"
        )


def _initialise(guide: Program, x: Tensor) -> None:
    """Call an automatic guide once without plates: its first call traces its model."""
    from pyro.infer.autoguide import AutoGuide

    if isinstance(guide, AutoGuide) and guide.prototype_trace is None:
        guide(x)


def _require_density(name: str, nodes: Mapping[str, Node]) -> None:
    """Raise :class:`InputError` unless a site or its auxiliary site has a density per datum."""
    node = nodes[name]
    if _is_auxiliary(node):
        _require_paired_auxiliary(name, nodes)
    elif _is_point(node) and name + UNCONSTRAINED not in nodes:
        raise InputError(
            f"from_pyro: the guide's site {name!r} is a point, and a point has no density to weigh "
            "its draws by; use AutoNormal, or draw it from a distribution with a density"
        )


def _require_paired_auxiliary(name: str, nodes: Mapping[str, Node]) -> None:
    if not _plates(nodes[name]):
        raise InputError(
            f"from_pyro: the guide draws the latents of all data jointly, by its site {name!r}, "
            "which gives no density per datum; use AutoNormal"
        )
    site = name.removesuffix(UNCONSTRAINED)
    if site == name or site not in nodes:
        raise InputError(
            f"from_pyro: the guide's auxiliary site {name!r} belongs to no site of the model; "
            f"name it SITE{UNCONSTRAINED}, or draw the site itself"
        )


def _supports(model: Program, x: Tensor) -> dict[str, Constraint]:
    """Run the model once and return the supports of its latent sites."""
    with torch.no_grad():
        trace = run(model, x, 1, {})
    return {name: node["fn"].support for name, node in _unobserved_nodes(trace).items()}


def _unobserved_nodes(trace: Trace) -> dict[str, Node]:
    nodes = sample_nodes(trace)
    return {name: node for name, node in nodes.items() if not node["is_observed"]}


def _plates(node: Node) -> list[Frame]:
    """Return the vectorised plates around a site, without that of the particles."""
    frames = node["cond_indep_stack"]
    return [frame for frame in frames if frame.vectorized and frame.name != PARTICLES]


def _is_auxiliary(node: Node) -> bool:
    return bool(node["infer"].get("is_auxiliary"))


def _is_point(node: Node) -> bool:
    from pyro.distributions import Delta

    distribution = node["fn"]
    while hasattr(distribution, "base_dist"):
        if isinstance(distribution, TransformedDistribution):
            return False
        distribution = distribution.base_dist
    return isinstance(distribution, Delta)
