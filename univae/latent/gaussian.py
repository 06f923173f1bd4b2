"""The diagonal Gaussian distribution of latents."""

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, Normal

__all__ = ["diagonal_gaussian"]


def diagonal_gaussian(
    mean: Float[Tensor, "*batch d"], scale: Float[Tensor, "*#batch d"]
) -> Independent:
    r"""Return :math:`N(z; \mu, \mathrm{diag}(\sigma^2))` over the last axis."""
    return Independent(Normal(mean, scale), 1)
