r"""Rotary positions: the phase of a feature pair turns with the position, so scores see differences of positions only.

Pairs are interleaved, features :math:`(2i, 2i+1)`, as in the paper and its weights; the half-split
layout of several newer code bases is another model. A pair is one complex number and the rotation
one complex product.

References:
    RoFormer: Enhanced Transformer with Rotary Position Embedding (Su et al., 2021),
        https://arxiv.org/abs/2104.09864
"""

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor

from univae.errors import InputError

__all__ = ["phases", "rotate"]

_COMPUTED_IN = (torch.float32, torch.float64)


def phases(
    positions: Shaped[Tensor, "*positions"],
    width: int,
    base: float = 10000.0,
    dtype: torch.dtype = torch.float32,
) -> Complex[Tensor, "*positions half"]:
    r"""Return :math:`e^{\mathrm{i} p \theta_j}` with :math:`\theta_j = \text{base}^{-2j / D}`, :math:`j < D / 2`.

    Angles are computed in float64; the result is complex64, or complex128 where ``dtype`` is
    float64.

    Raises:
        InputError: if ``width`` is odd: features turn in pairs.
    """
    if width % 2:
        raise InputError(
            f"rope: a head turns its features in pairs; got width={width}; choose an even head width"
        )
    frequencies = base ** (
        -torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width
    )
    angles = positions.to(torch.float64)[..., None] * frequencies
    turned = torch.polar(torch.ones_like(angles), angles)

    return turned if dtype == torch.float64 else turned.to(torch.complex64)


def rotate(
    x: Float[Tensor, "*batch D"], phase: Complex[Tensor, "*#batch half"]
) -> Float[Tensor, "*batch D"]:
    r"""Rotate features :math:`(2i, 2i+1)` of ``x`` by the angle of ``phase``.

    :math:`\langle R_m q, R_n k \rangle` depends on :math:`m - n` alone. The rotation is computed in
    at least float32 and returned in the dtype of ``x``.
    """
    wide = x if x.dtype in _COMPUTED_IN else x.float()
    pairs = torch.view_as_complex(wide.view(*x.shape[:-1], -1, 2))
    turned = torch.view_as_real(pairs * phase).flatten(-2)

    return turned if turned.dtype == x.dtype else turned.to(x.dtype)
