"""Runs of Pyro programs under a plate of particles, and the sites of their traces.

Under an outer plate of K particles a site beside B data has a log-probability of shape (K, B).

References:
    Pyro: Deep Universal Probabilistic Programming (Bingham et al., 2018),
    https://arxiv.org/abs/1810.09538
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor
from torch.distributions import TransformedDistribution

from univae.errors import InputError

__all__ = [
    "UNCONSTRAINED",
    "Frame",
    "Node",
    "Program",
    "Trace",
    "is_auxiliary",
    "is_deterministic",
    "is_enumerated",
    "is_point",
    "plates",
    "run",
    "sample_nodes",
    "unobserved_nodes",
]

if TYPE_CHECKING:
    from pyro.poutine.runtime import InferDict
else:
    InferDict = dict  # Pyro is imported by the functions that need it

Program: TypeAlias = Callable[..., object]  # a model or guide of one batch of data
Node: TypeAlias = Mapping[str, Any]  # a site of a trace: Pyro's dictionary of mixed values

SAMPLE = "sample"  # the type of a node that draws or observes a value
PARTICLES = "_density_particles"  # the name of the outer plate
FIRST_ENUMERATED_DIM = -3  # beyond those of the data and of the particles
# suffix of an auxiliary site's name in Pyro's automatic guides
UNCONSTRAINED = "_unconstrained"


@runtime_checkable
class Frame(Protocol):
    """A plate around a site."""

    name: str
    dim: int
    size: int
    full_size: int
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


def run(
    program: Program,
    x: Tensor,
    samples: int,
    values: Mapping[str, Tensor],
    *,
    enumerated: bool = False,
) -> Trace:
    """Run ``program(x)`` under a plate of ``samples`` particles and return its trace.

    Sites in ``values`` have these values, the others are drawn. With ``enumerated``, discrete ones
    marked for parallel enumeration have all their values instead, each site along an axis of its
    own.

    Raises:
        InputError: a site to be enumerated takes a number of samples of its values.
    """
    import pyro
    from pyro import poutine

    particles = poutine.condition(program, data=dict(values)) if values else program
    if enumerated:
        particles = poutine.infer_config(particles, _require_all_values)
        particles = poutine.enum(particles, first_available_dim=FIRST_ENUMERATED_DIM)
    plated = pyro.plate(PARTICLES, samples, dim=-2)(particles)
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


def unobserved_nodes(trace: Trace) -> dict[str, Node]:
    """Return the sample sites of a trace that are not observed, without plates."""
    nodes = sample_nodes(trace)
    return {name: node for name, node in nodes.items() if not node["is_observed"]}


def plates(node: Node) -> list[Frame]:
    """Return the vectorised plates around a site, without that of the particles."""
    frames = node["cond_indep_stack"]
    return [frame for frame in frames if frame.vectorized and frame.name != PARTICLES]


def is_auxiliary(node: Node) -> bool:
    """Return whether a site of a guide belongs to another site, its transformed value."""
    return bool(node["infer"].get("is_auxiliary"))


def is_deterministic(node: Node) -> bool:
    """Return whether a site records a value, without a density."""
    return bool(node["infer"].get("_deterministic"))


def is_enumerated(node: Node) -> bool:
    """Return whether a site has all its values, along an axis of its own."""
    return node["infer"].get("_enumerate_dim") is not None


def is_point(node: Node) -> bool:
    """Return whether a site has one possible value."""
    from pyro.distributions import Delta

    distribution = node["fn"]
    while hasattr(distribution, "base_dist"):
        if isinstance(distribution, TransformedDistribution):
            return False
        distribution = distribution.base_dist
    return isinstance(distribution, Delta)


def _require_all_values(node: Node) -> InferDict:
    """Raise :class:`InputError` if a site takes samples of its values; change no setting of it."""
    infer = node["infer"]
    samples = infer.get("num_samples")
    is_summed = infer.get("enumerate") == "parallel" and not node["is_observed"]
    if is_summed and samples is not None:
        raise InputError(
            f"from_pyro: site {node['name']!r} of the model takes num_samples={samples} of its "
            "values, which gives no exact sum over them; leave num_samples out, or draw the site "
            "in the guide"
        )
    return InferDict()
