"""The latent sites of a Pyro guide.

References:
    Pyro: Deep Universal Probabilistic Programming (Bingham et al., 2018),
    https://arxiv.org/abs/1810.09538
"""

import math
from dataclasses import dataclass

import torch
from torch import Size, Tensor
from torch.distributions import Transform, biject_to
from torch.distributions.constraints import Constraint

from density.pyro_checks import require_densities
from density.pyro_traces import (
    UNCONSTRAINED,
    Program,
    Trace,
    is_auxiliary,
    is_point,
    run,
    sample_nodes,
    unobserved_nodes,
)
from univae.errors import InputError

__all__ = ["LatentSite", "latent_sites"]


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


def latent_sites(model: Program, guide: Program, x: Tensor) -> list[LatentSite]:
    """Run the guide once and return its latent sites, in the order in which it draws them.

    Raises:
        InputError: the guide draws nothing, or a site has no density per datum.
    """
    with torch.no_grad():
        _initialise(guide, x)
        trace = run(guide, x, 1, {})
    nodes = unobserved_nodes(trace)
    if not nodes:
        raise InputError(
            "from_pyro: the guide draws nothing; "
            "give it a sample site for every latent of the model"
        )
    require_densities(sample_nodes(trace), len(x))

    supports = {}
    if any(is_point(node) for node in nodes.values()):
        supports = _supports(model, x)
    sites = []
    for name, node in nodes.items():
        if is_auxiliary(node):
            continue
        value = node["value"]
        event_shape = value.shape[value.dim() - node["fn"].event_dim :]
        transform = None
        if is_point(node) and name in supports:
            transform = biject_to(supports[name])
        sites.append(LatentSite(name, event_shape, value.dtype, transform))
    return sites


def _initialise(guide: Program, x: Tensor) -> None:
    """Call an automatic guide once without plates: its first call traces its model."""
    from pyro.infer.autoguide import AutoGuide

    if isinstance(guide, AutoGuide) and guide.prototype_trace is None:
        guide(x)


def _supports(model: Program, x: Tensor) -> dict[str, Constraint]:
    """Run the model once and return the supports of its latent sites."""
    with torch.no_grad():
        trace = run(model, x, 1, {})
    return {name: node["fn"].support for name, node in unobserved_nodes(trace).items()}
