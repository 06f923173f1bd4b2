r"""Rotary positions: feature pairs rotate, so that scores depend on position differences only.

Pairs are interleaved, features :math:`(2i, 2i+1)`, as in the paper and its weights; the half-split
layout of several newer code bases is another model. A pair is one complex number, and the rotation
one complex product. Graph formats lack complex numbers: in an exported graph the last axis of a
phase holds the real and the imaginary part of each pair, one after the other.

References:
    RoFormer: Enhanced Transformer with Rotary Position Embedding (Su et al., 2021),
        https://arxiv.org/abs/2104.09864
"""

import torch
from jaxtyping import Float, Inexact, Shaped
from torch import Tensor

from univae.errors import InputError
from univae.tracing import is_exporting

__all__ = ["BASE", "phases", "rotate", "stretched_base"]

BASE = 10_000.0  # as published
PAIR = 2  # features that rotate together
COMPLEX_COUNTERPART = (torch.float32, torch.float64)  # dtypes that have a complex one


def phases(
    positions: Shaped[Tensor, "*positions"],
    width: int,
    base: float = BASE,
    dtype: torch.dtype = torch.float32,
) -> Inexact[Tensor, "*positions half"]:
    r"""Return :math:`e^{\mathrm{i} p \theta_j}`, :math:`\theta_j = \text{base}^{-2j / D}`.

    D is the ``width`` of a head and :math:`j < D / 2`. Angles are computed in float64; the result
    is complex64, or complex128 where ``dtype`` is float64; in an exported graph it is real,
    (\*positions, D).

    Raises:
        InputError: ``width`` is odd.
    """
    if width % 2:
        raise InputError(
            "rope: features of a head rotate in pairs; "
            f"got width={width}; choose an even head width"
        )
    exponents = -torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width
    frequencies = base**exponents
    angles = positions.to(torch.float64)[..., None] * frequencies
    if is_exporting():
        parts = torch.stack((angles.cos(), angles.sin()), -1).flatten(-2)
        return parts.to(torch.promote_types(dtype, torch.float32))
    phase = torch.polar(torch.ones_like(angles), angles)

    return phase if dtype == torch.float64 else phase.to(torch.complex64)


def stretched_base(base: float, width: int, factor: float) -> float:
    r"""Return the base with which positions up to ``factor`` times as far look as before.

    It is :math:`b \, f^{D / (D - 2)}` for heads of width D ("NTK-aware"): the slowest pair turns f
    times slower, so that no position lies beyond those of training, and the fastest as fast as
    before, so that neighbours are told apart.

    Raises:
        InputError: ``width`` is 2, where the one pair cannot be both.

    References:
        NTK-aware scaled RoPE (bloc97, 2023); Su, 2023, https://kexue.fm/archives/9675

    >>> round(stretched_base(10_000.0, 64, 4.0))
    41829
    """
    if width == PAIR:
        raise InputError(
            f"rope: a head of {width} features has one frequency, which cannot be stretched; "
            "use wider heads"
        )
    return float(base * factor ** (width / (width - 2)))


def rotate(
    x: Float[Tensor, "*batch D"], phase: Inexact[Tensor, "*#batch half"]
) -> Float[Tensor, "*batch D"]:
    r"""Rotate features :math:`(2i, 2i+1)` of ``x`` by the angle of ``phase``.

    :math:`\langle R_m q, R_n k \rangle` depends on :math:`m - n` alone. The rotation is computed in
    at least float32 and returned in the dtype of ``x``.
    """
    real = x if x.dtype in COMPLEX_COUNTERPART else x.float()
    if torch.compiler.is_compiling():  # which generates no code for complex numbers
        even, odd = real.unflatten(-1, (-1, 2)).unbind(-1)
        parts = torch.view_as_real(phase) if phase.is_complex() else phase.unflatten(-1, (-1, 2))
        cos, sin = parts.unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1)
        return turned.flatten(-2).to(x.dtype)
    pairs = torch.view_as_complex(real.view(*x.shape[:-1], -1, 2))
    rotated = torch.view_as_real(pairs * phase).flatten(-2)

    return rotated if rotated.dtype == x.dtype else rotated.to(x.dtype)
