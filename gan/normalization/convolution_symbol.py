r"""An upper bound of the norm of a convolution by its symbol, the matrices of its frequencies.

A convolution of stride s,

.. math:: y_t = \sum_k w_k \, x_{s t + \delta k - p},

is one of stride 1 of the :math:`s^d` phases of x: :math:`y_t = \sum_a W_a \, x'_{t + a}` where
:math:`x'_u` has the channels of :math:`x_{s u + r}` for all phases r. On a torus of T places a
dimension its norm is :math:`\max_\omega \|A(\omega)\|` over the T frequencies a dimension of

.. math:: A(\omega) = \sum_a W_a \, e^{i \langle \omega, a \rangle}.

Padded by zeros, on an image that fits into the torus without meeting itself, it is a part of that
operator and has at most its norm.

For a torus of more places than can be computed, M frequencies a dimension are enough: :math:`|u^*
A(\omega) v|^2` is a real trigonometric polynomial of degree :math:`D = \max a - \min a`, which near
its maximum is at least the maximum times :math:`\cos(D t)` at distance t (M. Riesz), so that
:math:`\sup_\omega \|A(\omega)\|^2 \le \max_j \|A(\omega_j)\|^2 / \prod \cos(\pi D / M)`.

References:
    The Singular Values of Convolutional Layers (Sedghi et al., 2019),
    https://arxiv.org/abs/1805.10408

    Bounding multivariate trigonometric polynomials (Pfister and Bresler, 2018),
    https://arxiv.org/abs/1802.09588
"""

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

__all__ = ["torus_norm"]

# Frequencies of the grid, all dimensions together, and numbers of the symbol computed at once.
FREQUENCIES = 4096
CHUNK_ENTRIES = 2**21


def torus_norm(
    weight: Tensor,
    spatial: Sequence[int],
    pads: Sequence[tuple[int, int]],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> float:
    r"""Return an upper bound of the norm of a convolution that is padded by zeros.

    Args:
        weight: (out, in / groups, \*kernel), in float64.
        spatial: sides of the input.
        pads: zeros before and after each side.
        stride: of each dimension.
        dilation: of each dimension.
        groups: of channels, which do not meet.
    """
    places = []
    for side, pad, step, spread, taps in zip(
        spatial, pads, stride, dilation, weight.shape[2:], strict=True
    ):
        places.append(_places(side, pad, step, spread * (taps - 1)))
    shifts, phases = _polyphase(weight, [before for before, _ in pads], stride, dilation, groups)
    degrees = (shifts.amax(0) - shifts.amin(0)).tolist()

    grid = []
    factor = 1.0
    for torus, degree in zip(places, degrees, strict=True):
        count, squared_factor = _frequencies(torus, degree, len(places))
        grid.append(count)
        factor *= math.sqrt(squared_factor)
    return factor * _largest_symbol_norm(shifts, phases, grid)


def _places(side: int, pad: tuple[int, int], step: int, reach: int) -> int:
    """Return the places of a torus, in outputs, on which no tap meets the image a second time."""
    before, after = pad
    outputs = (side + before + after - reach - 1) // step + 1
    last = step * (outputs - 1) + reach - before
    needed = max(side + before, last + 1, step * outputs)
    return math.ceil(needed / step)


def _polyphase(
    weight: Tensor,
    before: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Tensor, Tensor]:
    """Return the shifts a, (shifts, d), and W_a, (shifts, groups, out, in phases)."""
    grouped = weight.unflatten(0, (groups, -1)).flatten(3)
    out, channels = grouped.shape[1:3]
    matrices: dict[tuple[int, ...], Tensor] = {}
    for index, tap in enumerate(product(*map(range, weight.shape[2:]))):
        shift: tuple[int, ...] = ()
        phase = 0
        for place, spread, pad, step in zip(tap, dilation, before, stride, strict=True):
            offset = spread * place - pad
            shift = (*shift, offset // step)
            phase = phase * step + offset % step
        if shift not in matrices:
            matrices[shift] = weight.new_zeros(groups, out, channels, math.prod(stride))
        matrices[shift][..., phase] += grouped[..., index]
    shifts = torch.tensor(list(matrices), dtype=weight.dtype, device=weight.device)
    return shifts, torch.stack([matrix.flatten(2) for matrix in matrices.values()])


def _frequencies(places: int, degree: float, dimensions: int) -> tuple[int, float]:
    """Return the frequencies of one dimension, and the factor from the grid to the supremum."""
    most = max(round(FREQUENCIES ** (1 / dimensions)), int(4 * degree) + 1)
    if places <= most:
        return places, 1.0
    return most, 1 / math.cos(math.pi * degree / most)


def _largest_symbol_norm(shifts: Tensor, matrices: Tensor, grid: Sequence[int]) -> float:
    """Return the largest norm of the symbol at the frequencies of a grid."""
    # The weights are real: A(-w) is the conjugate of A(w), and half of one dimension is enough.
    counts = [*grid[:-1], grid[-1] // 2 + 1]
    angles = [
        2 * math.pi / size * torch.arange(count, dtype=shifts.dtype, device=shifts.device)
        for size, count in zip(grid, counts, strict=True)
    ]
    frequencies = torch.cartesian_prod(*angles).view(-1, len(grid))
    if matrices.shape[2] > matrices.shape[3]:
        matrices = matrices.mT

    largest = 0.0
    for chunk in frequencies.split(max(1, CHUNK_ENTRIES // matrices[0].numel())):
        phase = torch.exp(1j * (chunk @ shifts.T))
        symbol = torch.tensordot(phase, matrices.to(phase), dims=1)
        eigenvalues = torch.linalg.eigvalsh(symbol @ symbol.mH)
        largest = max(largest, eigenvalues.max().item())
    return math.sqrt(largest)
