"""The diagonal Gaussian distribution of latents."""

from typing import TYPE_CHECKING, TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, Normal

from univae.devices import is_readable
from univae.errors import InputError

__all__ = ["DiagonalGaussian", "diagonal_gaussian"]

if TYPE_CHECKING:
    DiagonalGaussian: TypeAlias = Independent[Normal]
else:
    DiagonalGaussian = Independent  # which older versions of torch cannot subscript


def diagonal_gaussian(
    mean: Float[Tensor, "*batch d"], scale: Float[Tensor, "*#batch d"]
) -> DiagonalGaussian:
    r"""Return :math:`N(z; \mu, \mathrm{diag}(\sigma^2))` over the last axis.

    Raises:
        InputError: a mean is not finite, or a deviation is not a finite number above 0.
    """
    checked = None if is_readable(mean) else False  # None: PyTorch's default
    try:
        return Independent(Normal(mean, scale, validate_args=checked), 1, validate_args=checked)
    except ValueError as error:
        raise InputError(
            "the Gaussian of a latent must have finite means and deviations above 0, which these "
            "weights do not give for these data; scale the data, or restore or train the weights "
            "anew"
        ) from error
