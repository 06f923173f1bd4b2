"""Shapes of images, and the sizes of their repeated halving by a network."""

from typing import TypeAlias

from univae.errors import InputError

__all__ = ["Shape", "halvings", "image_shape"]

Shape: TypeAlias = tuple[int, ...]

AXES = 3  # channels, height, width


def image_shape(shape: Shape, who: str) -> tuple[int, int, int]:
    """Return channels, height and width.

    Raises:
        InputError: ``shape`` is not that of an image; the message names the network ``who``.
    """
    if len(shape) != AXES:
        raise InputError(
            f"{who}: data must be (channels, height, width); got {shape}; "
            "a fully connected network takes data of any shape"
        )
    channels, height, width = shape
    return channels, height, width


def halvings(shape: Shape, who: str, smallest: int) -> list[tuple[int, int]]:
    """Return the sizes (height, width) of an image that is halved repeatedly, full size first.

    It is halved while both sides are even and the longer one is at least ``smallest``.

    >>> halvings((1, 28, 28), "example", smallest=8)
    [(28, 28), (14, 14), (7, 7)]

    Raises:
        InputError: ``shape`` is not that of an image, or cannot be halved once.
    """
    _, height, width = image_shape(shape, who)
    sizes = [(height, width)]
    while max(height, width) >= smallest and height % 2 == 0 and width % 2 == 0:
        height //= 2
        width //= 2
        sizes.append((height, width))
    if len(sizes) == 1:
        raise InputError(
            f"{who}: both sides must be even and one {smallest} or more, to be halved; "
            f"got {height}x{width}; pad the images"
        )
    return sizes
