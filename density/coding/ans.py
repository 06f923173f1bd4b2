r"""Entropy coding with exact integers: a stack of bits, and tables of frequencies.

A code is a mirrored pair: :meth:`Stack.pop` is the inverse of :meth:`Stack.push`, and popping
other bits samples from the table, which a later push inverts. Every table consists of whole
numbers that sum to ``TOTAL``; each symbol has one interval of :math:`0, \dots, \text{TOTAL} -
1`. The coder's leaky quantiser gives symbol i the frequency :math:`1 + w_i` when the weights
:math:`w` sum to ``TOTAL`` less their number, so it receives frequencies less one and does not
round.

The coder is constriction's: one asymmetric numeral system with 64 bits of state and words of 32.

References:
    Asymmetric numeral systems (Duda, 2009), https://arxiv.org/abs/0902.0271
    Understanding Entropy Coding With Asymmetric Numeral Systems (Bamler, 2022),
        https://arxiv.org/abs/2201.01741
"""

from collections.abc import Sequence
from typing import NamedTuple

import constriction
import numpy as np

from univae.errors import InputError

__all__ = [
    "LEAST",
    "PRECISION",
    "SPARE",
    "TOTAL",
    "Exhausted",
    "Intervals",
    "Stack",
    "concatenate",
    "frequencies",
    "full_sizes",
    "intervals",
]

PRECISION = 24  # bits of a frequency table, as in the coder

TOTAL = 2**PRECISION

# Frequency of the most improbable symbol; leaves room for two more symbols beside any interval.
LEAST = 2

# Bits of a digit of a uniform number; the coder is uniform over these to a relative 2^-12.
DIGIT = 12

# Bits that must remain in a message after a pop, so that no pop reads beyond its end.
SPARE = 64

_stream = constriction.stream

_categorical = _stream.model.Categorical(perfect=False)

_uniform = _stream.model.Uniform()


class Exhausted(Exception):
    """Signal that the stack holds too few bits for a pop: ``missing`` more are needed."""

    def __init__(self, missing: int) -> None:
        super().__init__(missing)
        self.missing = missing


class Intervals(NamedTuple):
    """Intervals of symbols in their tables, in the order in which the symbols are popped."""

    start: np.ndarray  # (n,) int64
    size: np.ndarray  # (n,) int64, of TOTAL
    row: np.ndarray  # (n,) row of the tile that the symbol belongs to

    def log_mass(self, rows: int) -> np.ndarray:
        r"""Return :math:`\log P` of each row's symbols, (rows,), in nats, by their frequencies."""
        return np.bincount(self.row, np.log(self.size / TOTAL), rows)


class Stack:
    """A message. The last array pushed is the first to be popped, its symbols in their order."""

    def __init__(self, words: np.ndarray | None = None) -> None:
        if words is not None and len(words):
            self._coder = _stream.stack.AnsCoder(words)
        else:
            self._coder = _stream.stack.AnsCoder()

    @property
    def bits(self) -> int:
        """The length of the message."""
        return int(self._coder.num_valid_bits())

    def words(self) -> np.ndarray:
        """Return the message as uint32 words, from which the constructor restores it."""
        words: np.ndarray = self._coder.get_compressed()
        return words

    def require(self, bits: int) -> None:
        """Raise :class:`Exhausted` if the message is shorter than ``bits``."""
        if self.bits < bits:
            raise Exhausted(bits - self.bits)

    def push(self, symbols: Intervals) -> None:
        """Push symbols by their intervals, each the middle one of three that fill its table."""
        start = symbols.start
        size = symbols.size
        above = TOTAL - start - size
        index = np.where(start == 0, 0, np.where(above == 0, 2, 1)).astype(np.int32)

        # an interval at an end of the table: the other side is split into 1 and the rest
        at_end = index != 1
        columns = (
            np.where(index == 0, size, np.where(at_end, 1, start)),
            np.where(index == 0, 1, np.where(at_end, start - 1, size)),
            np.where(index == 0, above - 1, np.where(at_end, size, above)),
        )
        weights = np.ascontiguousarray(np.stack(columns, 1), np.float64) - 1
        self._coder.encode_reverse(index, _categorical, weights)

    def pop(self, table: np.ndarray) -> np.ndarray:
        """Pop a symbol of each row of frequencies (n, levels); the inverse of :meth:`push`."""
        # the coder reads memory row by row, whatever the strides are
        weights = np.ascontiguousarray(table, np.float64) - 1
        symbols: np.ndarray = self._coder.decode(_categorical, weights)
        return symbols

    def push_uniform(self, values: np.ndarray, sizes: np.ndarray) -> None:
        """Push whole numbers 0..size-1 that are equally likely, sizes 1..TOTAL.

        Each is two digits, the high one popped first. At most :math:`2^{-11} / \\ln 2` bits a
        number are lost to the last, partial high digit.
        """
        high_sizes, low_bits = _digits(sizes)
        high = values >> low_bits
        self._push_digits(values - (high << low_bits), _low_sizes(high, sizes, low_bits))
        self._push_digits(high, high_sizes)

    def pop_uniform(self, sizes: np.ndarray) -> np.ndarray:
        """Pop the numbers that :meth:`push_uniform` pushed."""
        high_sizes, low_bits = _digits(sizes)
        high = self._pop_digits(high_sizes)
        low = self._pop_digits(_low_sizes(high, sizes, low_bits))
        values: np.ndarray = (high << low_bits) + low
        return values

    def _push_digits(self, values: np.ndarray, sizes: np.ndarray) -> None:
        has_digit = sizes > 1  # one value takes no bits, and the coder rejects it
        if has_digit.any():
            self._coder.encode_reverse(
                values[has_digit].astype(np.int32), _uniform, sizes[has_digit].astype(np.int32)
            )

    def _pop_digits(self, sizes: np.ndarray) -> np.ndarray:
        values = np.zeros(len(sizes), np.int64)
        has_digit = sizes > 1
        if has_digit.any():
            values[has_digit] = self._coder.decode(_uniform, sizes[has_digit].astype(np.int32))
        return values


def _digits(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many values the high digit has, and how many bits the low one."""
    low_bits = np.maximum(np.frexp(sizes)[1].astype(np.int64) - DIGIT, 0)
    return ((sizes - 1) >> low_bits) + 1, low_bits


def _low_sizes(high: np.ndarray, sizes: np.ndarray, low_bits: np.ndarray) -> np.ndarray:
    low_sizes: np.ndarray = np.minimum(np.int64(1) << low_bits, sizes - (high << low_bits))
    return low_sizes


def frequencies(p: np.ndarray) -> np.ndarray:
    r"""Return probabilities (n, levels) as whole numbers that sum to ``TOTAL`` in every row.

    .. math:: f_i = 2 + \lfloor p_i (\text{TOTAL} - 2\, \text{levels}) \rfloor, \qquad
              \text{and the remainder goes to the most probable.}

    Each row of the result depends on its row of ``p`` alone.

    Raises:
        InputError: a row sums to more than 1, or holds NaN.
    """
    levels = p.shape[1]
    free = TOTAL - LEAST * levels
    if not (np.isfinite(p).all() and free > 0):
        raise InputError(
            "frequencies: probabilities must be finite, of fewer than "
            f"{TOTAL // LEAST} levels; got {levels}"
        )
    table = np.floor(p * free).astype(np.int64)
    remainder = free - table.sum(1)
    if (remainder < 0).any() or (table < 0).any():
        raise InputError(
            "frequencies: probabilities must lie in [0, 1] and sum to 1; normalise them"
        )
    table[np.arange(len(p)), p.argmax(1)] += remainder
    result: np.ndarray = table + LEAST
    return result


def full_sizes(count: int) -> np.ndarray:
    """Return ``TOTAL`` ``count`` times: the sizes of uniform positions in whole tables."""
    return np.full(count, TOTAL)


def intervals(table: np.ndarray, symbols: np.ndarray, row: np.ndarray) -> Intervals:
    """Return the intervals of ``symbols`` (n,) in the frequencies (n, levels)."""
    index = np.arange(len(symbols))
    size = table[index, symbols]
    return Intervals(table.cumsum(1)[index, symbols] - size, size, row)


def concatenate(arrays: Sequence[Intervals]) -> Intervals:
    """Return the intervals of several arrays of symbols, one after the other."""
    columns = zip(*arrays, strict=True)
    return Intervals(*(np.concatenate(column) for column in columns))
