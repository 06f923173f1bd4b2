r"""Two averages in the memory of one, each in the upper half of its bits.

Inside a window an optimizer needs three tensors: the sum of the gradients, and the averages
:math:`m` and :math:`v` up to the last update. In the memory of two of them, the sum has a tensor of
its own, in full precision; :math:`m` and :math:`v` share the words of the other: of float32, 16
bits each, which leave 7 bits behind the point for :math:`m` and 8 for :math:`v`, which has no sign.

Rounding is unbiased: up with the probability of the remainder. To the nearest number, an average
would not move where its change, as of :math:`1 - \beta_2 = 0.001`, is below half a unit of the last
bit. The random bits are a hash of the average and of the number of the update, so that results
repeat and no generator is drawn from.

References:
    Deep Learning with Limited Numerical Precision (Gupta et al., 2015; stochastic rounding),
    https://arxiv.org/abs/1502.02551
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from univae.optim.cache_chunks import Scratch

__all__ = ["pack", "round_stochastically", "unpack"]

INTEGERS: Mapping[torch.dtype, torch.dtype] = {
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
STEP_FACTOR = 0x9E3779B1  # odd, from the golden ratio: the hash of Knuth
MIX_FACTOR = 0x7FEB352D  # odd, of a hash of 32 bits by C. Wellons


def pack(averages: Sequence[Tensor], squares: Sequence[Tensor]) -> None:
    """Move ``averages`` into the words of ``squares``, which are not negative; zero ``averages``.

    The lower half of the bits of both is lost: see :func:`round_stochastically`.
    """
    for m, v in zip(averages, squares, strict=True):
        half = _half_bits(m)
        words = v.view(INTEGERS[v.dtype])
        words.bitwise_right_shift_(half - 1)  # without the sign
        words.bitwise_or_(m.view(words.dtype).bitwise_and(-(1 << half)))
    torch._foreach_zero_(list(averages))


def unpack(words: Sequence[Tensor], scratch: Scratch) -> tuple[list[Tensor], list[Tensor]]:
    """Return the averages and squares that :func:`pack` has moved, in buffers 0 and 1."""
    averages, average_views = scratch.copy(words)
    squares, square_views = scratch.copy(words, buffer=1)
    half = _half_bits(averages)
    integers = INTEGERS[averages.dtype]
    averages.view(integers).bitwise_and_(-(1 << half))
    bits = squares.view(integers)
    bits.bitwise_left_shift_(half - 1)
    bits.bitwise_and_((1 << (2 * half - 1)) - 1)
    return average_views, square_views


def round_stochastically(
    averages: Sequence[Tensor], squares: Sequence[Tensor], step: int, scratch: Scratch
) -> None:
    """Round both to the bits that :func:`pack` keeps; ``step`` is the number of the update."""
    rounded_averages, average_views = scratch.copy(averages)
    rounded_squares, square_views = scratch.copy(squares, buffer=1)
    noise, _ = scratch.copy(averages, buffer=2)
    half = _half_bits(noise)
    bits = noise.view(INTEGERS[noise.dtype])
    _hash(bits, step, 2 * half)

    low = (1 << half) - 1
    average_bits = rounded_averages.view(bits.dtype)
    average_bits.add_(bits.bitwise_and(low))
    average_bits.bitwise_and_(~low)

    low >>= 1
    bits.bitwise_right_shift_(half)
    bits.bitwise_and_(low)
    square_bits = rounded_squares.view(bits.dtype)
    square_bits.add_(bits)
    square_bits.bitwise_and_(~low)
    torch._foreach_copy_(list(averages), average_views)
    torch._foreach_copy_(list(squares), square_views)


def _half_bits(x: Tensor) -> int:
    return 4 * x.element_size()


def _hash(bits: Tensor, step: int, width: int) -> None:
    """Mix integers of ``width`` bits and ``step`` into uniform bits, in place."""
    bits.add_(_signed(step * STEP_FACTOR, width))
    for _ in range(2):
        bits.bitwise_xor_(bits.bitwise_right_shift(width // 2))
        bits.mul_(_signed(MIX_FACTOR << (width - 32) | MIX_FACTOR, width))
    bits.bitwise_xor_(bits.bitwise_right_shift(width // 2 - 1))


def _signed(number: int, width: int) -> int:
    """Return the number modulo 2^width, as a signed integer of that width.

    >>> _signed(2**32 + 3, 32), _signed(2**31, 32)
    (3, -2147483648)
    """
    half_range = 1 << (width - 1)
    return (number + half_range) % (2 * half_range) - half_range
