r"""Directions of latents that change the data most: what the sliders of the explorer move along.

Of a VAE: the principal components of the codes of data, layer by layer, each as long as the
standard deviation of the codes along it. Latents that the decoder ignores have codes at the mean of
the prior, and get no direction.

Of a GAN: the eigenvectors with the largest eigenvalues of the mean, over latents z, of
:math:`J(z)^\top J(z)`, where J is the Jacobian of the generated numbers in z. They have length 1,
the standard deviation of the latents.

References:
    The Geometry of Deep Generative Image Models and its Applications (Wang & Ponce, 2021),
    https://arxiv.org/abs/2101.06006
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["principal_components", "sensitive_directions"]

DIFFERENCE = 0.05  # half the distance between the two points of a difference quotient
TWO = 2  # codes, which vary along a direction
SMALLEST = 1e-6  # deviation of codes, where that of the prior is about 1; less is rounding


def principal_components(codes: Float[Tensor, "N d"], count: int) -> Float[Tensor, "components d"]:
    """Return the first principal components of codes, of the length of their standard deviation.

    There are fewer than ``count`` where the codes vary along fewer directions. The largest
    coordinate of a component is positive.
    """
    if len(codes) < TWO:
        return codes[:0]
    centred = codes.double() - codes.double().mean(0)
    _, singular_values, axes = torch.linalg.svd(centred, full_matrices=False)
    deviations = singular_values / (len(codes) - 1) ** 0.5
    kept = deviations > SMALLEST
    components = _with_positive_peak(axes[kept]) * deviations[kept, None]
    return components[:count].to(codes.dtype)


def sensitive_directions(
    generate: Callable[[Tensor], Tensor], z: Float[Tensor, "N d"], count: int
) -> Float[Tensor, "directions d"]:
    """Return the unit directions along which generated data change most, at most ``count``.

    The Jacobian is that of central differences.

    Args:
        generate: the data (N, ...) of latents (N, d).
        z: the latents at which the Jacobian is taken.
        count: the number of directions.
    """
    step = DIFFERENCE * torch.eye(z.shape[-1], dtype=z.dtype)
    square = torch.zeros_like(step, dtype=torch.float64)
    for point in z:
        difference = generate(point + step) - generate(point - step)
        jacobian = difference.flatten(1).double() / (2 * DIFFERENCE)  # (d, numbers)
        square += jacobian @ jacobian.T
    _, vectors = torch.linalg.eigh(square)  # eigenvalues ascend
    return _with_positive_peak(vectors.T.flip(0)[:count]).to(z.dtype)


def _with_positive_peak(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return vectors whose coordinate of the largest absolute value is positive."""
    peak = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return torch.where(peak < 0, -vectors, vectors)
