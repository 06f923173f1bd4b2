"""The latents that methods of estimation need which move them."""

from density import LatentModel
from density.estimation.flat_latents import require_flat as require_flat_prior

__all__ = ["require_flat"]


def require_flat(model: LatentModel, option: str, remedy: str) -> None:
    """Raise :class:`InputError` for a model whose option needs flat latents and which has none.

    See :func:`density.estimation.flat_latents.require_flat`.
    """
    require_flat_prior(model.prior(), option, remedy)
