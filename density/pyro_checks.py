"""Checks that sites of Pyro programs have a log-density per datum."""

from collections.abc import Mapping

import torch

from density.pyro_traces import (
    UNCONSTRAINED,
    Frame,
    Node,
    is_auxiliary,
    is_deterministic,
    is_point,
    plates,
)
from univae.errors import InputError

__all__ = ["require_densities", "require_local"]

PLATE_REMEDY = "use one plate of len(x) at dim=-1"


def require_densities(nodes: Mapping[str, Node], count: int) -> None:
    """Raise :class:`InputError` unless the sites of a guide have a density beside ``count`` data.

    A point has that of its auxiliary site. Factors and observed sites change no draw, and their
    log-probabilities would belong to no density of the draws.
    """
    for name, node in nodes.items():
        if node["is_observed"]:
            _require_recorded(name, node)
        else:
            _require_density(name, nodes)
            require_local("guide", name, node, count)


def require_local(program: str, name: str, node: Node, count: int) -> None:
    """Raise :class:`InputError` unless a site lies in one plate of ``count`` data, and in no other.

    ``program``, model or guide, is part of the message.
    """
    frames = plates(node)
    problem = ""
    remedy = PLATE_REMEDY
    if not any(frame.dim == -1 for frame in frames):
        problem = "lies outside the data plate, so its log-probability belongs to no datum"
    elif any(frame.dim != -1 for frame in frames):
        problem = "lies in a second plate; use .to_event() for what is inside a datum"
    elif any(frame.size != count or _is_subsampled(frame) for frame in frames):
        problem = f"lies in a plate that is not the {count} data of the batch; do not subsample"
    elif _is_scaled(node):
        problem = "is scaled by poutine.scale, and a scaled log-probability is of no distribution"
        remedy = "leave the scale out"
    if problem:
        raise InputError(f"from_pyro: site {name!r} of the {program} {problem}; {remedy}")


def _is_subsampled(frame: Frame) -> bool:
    return frame.size != frame.full_size


def _is_scaled(node: Node) -> bool:
    return bool((torch.as_tensor(node["scale"]) != 1).any())


def _require_recorded(name: str, node: Node) -> None:
    if not is_deterministic(node):
        raise InputError(
            f"from_pyro: site {name!r} of the guide is a factor or observed, which changes no draw "
            "and so is no part of their density; leave it out, or draw the latent from a "
            "distribution of that density"
        )


def _require_density(name: str, nodes: Mapping[str, Node]) -> None:
    """Raise :class:`InputError` unless a site or its auxiliary site has a density per datum."""
    node = nodes[name]
    if is_auxiliary(node):
        _require_paired_auxiliary(name, nodes)
    elif is_point(node) and name + UNCONSTRAINED not in nodes:
        raise InputError(
            f"from_pyro: the guide's site {name!r} is a point, and a point has no density to weigh "
            "its draws by; use AutoNormal, or draw it from a distribution with a density"
        )


def _require_paired_auxiliary(name: str, nodes: Mapping[str, Node]) -> None:
    if not plates(nodes[name]):
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
