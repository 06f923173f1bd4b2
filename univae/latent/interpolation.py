"""Ways from one latent to another: straight for Gaussian latents, along great circles for those on a sphere."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["lerp", "slerp"]


def lerp(
    a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"], t: Float[Tensor, "steps"]
) -> Float[Tensor, "steps *batch d"]:
    r"""Return :math:`(1 - t) a + t b` for every t."""
    t = t.view(-1, *[1] * a.dim())
    return (1 - t) * a + t * b


def slerp(
    a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"], t: Float[Tensor, "steps"]
) -> Float[Tensor, "steps *batch d"]:
    r"""Walk the great circle from unit vector a to unit vector b at constant speed.

    .. math:: \frac{\sin((1 - t) \omega)}{\sin \omega} a + \frac{\sin(t \omega)}{\sin \omega} b,
              \qquad \cos \omega = \langle a, b \rangle

    Computed from the part of b orthogonal to a, so that close ends lose no digits; between opposite
    points every great circle is shortest, and the one taken is arbitrary but fixed.

    References:
        Animating Rotation with Quaternion Curves (Shoemake, 1985),
        https://doi.org/10.1145/325165.325242

    >>> slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.5]))
    tensor([[0.7071, 0.7071]])
    """
    cosine = (a * b).sum(-1, keepdim=True)
    across = b - cosine * a
    sine = across.norm(dim=-1, keepdim=True)
    axis = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)[a.abs().argmin(-1)]
    other = axis - (axis * a).sum(-1, keepdim=True) * a
    lost = sine < 1e-6
    direction = torch.where(
        lost, other / other.norm(dim=-1, keepdim=True), across / sine.clamp_min(1e-30)
    )
    angle = torch.atan2(sine, cosine) * t.view(-1, *[1] * a.dim())

    return angle.cos() * a + angle.sin() * direction
