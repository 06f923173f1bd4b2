"""Paths between latents: straight lines for Gaussian latents, great circles on a sphere."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["lerp", "slerp"]

PARALLEL = 1e-6  # sine below which rounding loses the plane of two unit vectors


def lerp(
    a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"], t: Float[Tensor, "steps"]
) -> Float[Tensor, "steps *batch d"]:
    r"""Return :math:`(1 - t) a + t b` for every t."""
    t = t.view(-1, *[1] * a.dim())
    return (1 - t) * a + t * b


def slerp(
    a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"], t: Float[Tensor, "steps"]
) -> Float[Tensor, "steps *batch d"]:
    r"""Return the points at fractions t of the great circle from unit vector a to unit vector b.

    .. math:: \frac{\sin((1 - t) \omega)}{\sin \omega} a + \frac{\sin(t \omega)}{\sin \omega} b,
              \qquad \cos \omega = \langle a, b \rangle

    They are computed from the component of b orthogonal to a, so that close ends lose no digits.
    Between opposite points every great circle is shortest, and the choice is arbitrary but fixed.

    References:
        Animating Rotation with Quaternion Curves (Shoemake, 1985),
        https://doi.org/10.1145/325165.325242

    >>> slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.5]))
    tensor([[0.7071, 0.7071]])
    """
    cosine = (a * b).sum(-1, keepdim=True)
    orthogonal = b - cosine * a
    sine = orthogonal.norm(dim=-1, keepdim=True)

    # For parallel ends: the direction of the axis that is the most orthogonal to a.
    axis = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)[a.abs().argmin(-1)]
    fallback = axis - (axis * a).sum(-1, keepdim=True) * a
    fallback = fallback / fallback.norm(dim=-1, keepdim=True)

    direction = torch.where(sine < PARALLEL, fallback, orthogonal / sine.clamp_min(1e-30))
    angle = torch.atan2(sine, cosine) * t.view(-1, *[1] * a.dim())
    return angle.cos() * a + angle.sin() * direction
