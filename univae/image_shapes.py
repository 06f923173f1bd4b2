"""Shapes of images, and the sizes at which a network halves them."""

from typing import Protocol, TypeAlias, runtime_checkable

from univae.errors import InputError

__all__ = ["HasShape", "Shape", "halvings", "image_shape", "sizes"]


@runtime_checkable
class HasShape(Protocol):
    """The shape of one row of the data."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def image_shape(pixels: HasShape, who: str) -> tuple[int, int, int]:
    """Channels, height and width of the data, or :class:`InputError`."""
    if len(pixels.shape) != 3:
        raise InputError(
            f"{who}: data must be (channels, height, width); got {pixels.shape}; MLPVAE takes data of any shape"
        )
    channels, height, breadth = pixels.shape
    return channels, height, breadth


def halvings(pixels: HasShape, who: str) -> list[tuple[int, int]]:
    """The sizes of an image halved while both sides are even and one is above 4, the full size first."""
    _, height, breadth = pixels.shape
    sizes = [(height, breadth)]
    while max(sizes[-1]) > 4 and not (sizes[-1][0] % 2 or sizes[-1][1] % 2):
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    if len(sizes) == 1:
        raise InputError(
            f"{who}: both sides must be even and one above 4, to be halved; got {height}x{breadth}; pad the images"
        )
    return sizes


Shape: TypeAlias = tuple[int, ...]


def sizes(shape: Shape, who: str) -> list[tuple[int, int]]:
    """The sizes of an image halved while both sides are even and one is 8 or more, the full size first."""
    if len(shape) != 3:
        raise InputError(
            f"{who}: data must be (channels, height, width); got {shape}; the MLP takes data of any shape"
        )
    found = [(shape[1], shape[2])]
    while max(found[-1]) >= 8 and not (found[-1][0] % 2 or found[-1][1] % 2):
        found.append((found[-1][0] // 2, found[-1][1] // 2))
    if len(found) == 1:
        raise InputError(
            f"{who}: both sides must be even and one 8 or more, to be halved; got {shape[1]}x{shape[2]}; pad the images"
        )
    return found
