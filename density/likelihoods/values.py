"""Values of pixels: checks that they are levels, and distances from a location in scales."""

from torch import Size, Tensor
from torch.distributions import Normal, StudentT

from univae.devices import any_false
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["check_levels", "standardised"]


def check_levels(who: str, x: Tensor, shape: Size, levels: int) -> None:
    """Raise :class:`InputError` unless ``x`` ends in ``shape`` and holds whole numbers 0..levels-1.

    ``who`` opens the message: the class whose input ``x`` is. Values are not known, and not
    checked, while a graph is exported.
    """
    if x.shape[-len(shape) :] != shape:
        raise InputError(f"{who}: x must end in {tuple(shape)}; got {tuple(x.shape)}; reshape it")
    values = at_least_float32(x)  # uint8 would compare with the number of levels modulo 256
    is_level = (values == values.round()) & (values >= 0) & (values < levels)
    if any_false(is_level):
        first = values[~is_level][0].item()
        raise InputError(
            f"{who}: x must hold whole levels 0..{levels - 1}; got {first:g}; "
            "binarise the data, name their levels, or choose a density"
        )


def standardised(pixels: Normal | StudentT, x: Tensor) -> Tensor:
    """Return the distance of x from the location in scales, in at least float32.

    Raises:
        ValueError: a value is NaN and the arguments of the distribution are checked.
    """
    values = at_least_float32(x)
    if pixels._validate_args:
        pixels._validate_sample(values)
    return (values - pixels.loc) / pixels.scale
