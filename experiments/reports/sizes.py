"""The number of weights of a checkpoint."""

import math
from pathlib import Path

from univae.checksums import WEIGHTS
from univae.weights_file import stored_shapes

__all__ = ["parameters"]


def parameters(checkpoint: Path, part: str = "") -> int:
    """Return the number of weights in a checkpoint, or of those whose names begin with ``part``.

    Raises:
        InputError: the file of the weights is damaged.
    """
    shapes = stored_shapes(checkpoint / WEIGHTS)
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(part))
