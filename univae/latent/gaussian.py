"""The diagonal Gaussian distribution of latents."""

from typing import TYPE_CHECKING, TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, Normal

__all__ = ["DiagonalGaussian", "diagonal_gaussian"]

if TYPE_CHECKING:
    DiagonalGaussian: TypeAlias = Independent[Normal]
else:
    DiagonalGaussian = Independent  # which older versions of torch cannot subscript


def diagonal_gaussian(
    mean: Float[Tensor, "*batch d"], scale: Float[Tensor, "*#batch d"]
) -> DiagonalGaussian:
    r"""Return :math:`N(z; \mu, \mathrm{diag}(\sigma^2))` over the last axis."""
    return Independent(Normal(mean, scale), 1)
