"""Methods of estimation that move latents, and the latents that they need."""

from torch.distributions import Distribution, Independent

from density.estimation.annealing_path import is_flat
from univae.errors import InputError

__all__ = ["require_flat"]


def require_flat(prior: Distribution, option: str, remedy: str) -> None:
    r"""Raise :class:`InputError` where latents do not fill :math:`\mathbb{R}^d`, as on a sphere.

    Args:
        prior: the prior of the model.
        option: the option or argument that needs such latents.
        remedy: what to give instead.
    """
    if is_flat(prior):
        return
    while isinstance(prior, Independent):
        prior = prior.base_dist
    raise InputError(
        f"{option} needs latents on all of R^d, and the prior of this run is a "
        f"{type(prior).__name__}; {remedy}"
    )
