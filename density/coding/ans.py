r"""Entropy coding with exact integers: a stack of bits, frequency tables, and Gaussian latents cut into buckets.

A code is a mirrored pair: what :meth:`Stack.push` wrote, :meth:`Stack.pop` reads, and popping what
was never pushed draws from the table, which a later push undoes. Every table is made of whole
numbers that sum to ``TOTAL``, each symbol owning one interval of :math:`0, \dots, \text{TOTAL} -
1`, and reaches the coder without another rounding: its leaky quantiser gives symbol i the frequency
:math:`1 + w_i` when the weights :math:`w` sum to ``TOTAL`` less their number, so it is handed
frequencies less one.

The coder is constriction's: one asymmetric numeral system with 64 bits of state and words of 32.

References:
    Asymmetric numeral systems (Duda, 2009), https://arxiv.org/abs/0902.0271 Understanding Entropy
    Coding With Asymmetric Numeral Systems (Bamler, 2022), https://arxiv.org/abs/2201.01741
"""

from typing import NamedTuple

import constriction
import numpy as np

from univae.errors import InputError

__all__ = [
    "PRECISION",
    "SPARE",
    "TOTAL",
    "Exhausted",
    "Intervals",
    "Stack",
    "frequencies",
    "intervals",
    "whole",
]


PRECISION = 24  # bits of a frequency table, the coder's own

TOTAL = 2**PRECISION

# frequency of the most improbable symbol: beside any interval there is room for two more symbols
LEAST = 2

# bits of a digit of a uniform number: below it the coder's uniform law is uniform to 2^-12
DIGIT = 12

SPARE = 64  # bits below which a message is not to sink when more than it holds could be asked for


_stream = constriction.stream

_categorical = _stream.model.Categorical(perfect=False)

_uniform = _stream.model.Uniform()


class Exhausted(Exception):
    """The stack holds fewer bits than are to be popped: ``missing`` more are needed."""

    def __init__(self, missing: int) -> None:
        super().__init__(missing)
        self.missing = missing


class Intervals(NamedTuple):
    """What symbols own of their tables, in the order in which they are popped."""

    start: np.ndarray  # (n,) int64
    size: np.ndarray  # (n,) int64, of TOTAL
    row: np.ndarray  # (n,) the datum of the tile that the symbol belongs to

    def log_mass(self, rows: int) -> np.ndarray:
        r"""Return :math:`\log P` of every datum's symbols, (rows,), in nats, of the frequencies that are coded with."""
        return np.bincount(self.row, np.log(self.size / TOTAL), rows)


class Stack:
    """A message.

    Symbols are popped in the order of the arrays they were pushed in, the last push first.
    """

    def __init__(self, words: np.ndarray | None = None) -> None:
        self._coder = (
            _stream.stack.AnsCoder(words)
            if words is not None and len(words)
            else _stream.stack.AnsCoder()
        )

    @property
    def bits(self) -> int:
        """The length of the message."""
        return self._coder.num_valid_bits()

    def words(self) -> np.ndarray:
        """The message as uint32; it starts another stack with the same content."""
        return self._coder.get_compressed()

    def require(self, bits: int) -> None:
        """Raise :class:`Exhausted` if fewer bits are there: a pop would invent the rest."""
        if self.bits < bits:
            raise Exhausted(bits - self.bits)

    def push(self, of: Intervals) -> None:
        """Push symbols by their intervals: each is one of three, with what lies below and above it."""
        start = of.start
        size = of.size
        above = TOTAL - start - size
        symbol = np.where(start == 0, 0, np.where(above == 0, 2, 1)).astype(np.int32)
        # the interval touches an end: the other side is parted into 1 and the rest
        edge = symbol != 1
        columns = (
            np.where(symbol == 0, size, np.where(edge, 1, start)),
            np.where(symbol == 0, 1, np.where(edge, start - 1, size)),
            np.where(symbol == 0, above - 1, np.where(edge, size, above)),
        )
        self._coder.encode_reverse(
            symbol, _categorical, np.ascontiguousarray(np.stack(columns, 1), np.float64) - 1
        )

    def pop(self, table: np.ndarray) -> np.ndarray:
        """Pop a symbol of each row of frequencies (n, levels); the inverse of :meth:`push`."""
        # The coder reads memory row by row, whatever the strides say.
        return self._coder.decode(_categorical, np.ascontiguousarray(table, np.float64) - 1)

    def push_uniform(self, values: np.ndarray, sizes: np.ndarray) -> None:
        """Push whole numbers 0..size-1, all alike, sizes 1..TOTAL, in two digits of which the high one is read first.

        At most :math:`2^{-11} / \\ln 2` bits a number are lost to the last, partial high digit.
        """
        high, low = _digits(sizes)
        digit = values >> low
        self._push_digits(values - (digit << low), _low_sizes(digit, sizes, low))
        self._push_digits(digit, high)

    def pop_uniform(self, sizes: np.ndarray) -> np.ndarray:
        """Pop what :meth:`push_uniform` pushes."""
        high, low = _digits(sizes)
        digit = self._pop_digits(high)
        return (digit << low) + self._pop_digits(_low_sizes(digit, sizes, low))

    def _push_digits(self, values: np.ndarray, sizes: np.ndarray) -> None:
        free = sizes > 1  # one possibility takes no bits, and the coder refuses it
        if free.any():
            self._coder.encode_reverse(
                values[free].astype(np.int32), _uniform, sizes[free].astype(np.int32)
            )

    def _pop_digits(self, sizes: np.ndarray) -> np.ndarray:
        values = np.zeros(len(sizes), np.int64)
        free = sizes > 1
        if free.any():
            values[free] = self._coder.decode(_uniform, sizes[free].astype(np.int32))
        return values


def _digits(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many values the high digit has, and how many bits the low one."""
    low = np.maximum(np.frexp(sizes)[1].astype(np.int64) - DIGIT, 0)
    return ((sizes - 1) >> low) + 1, low


def _low_sizes(digit: np.ndarray, sizes: np.ndarray, low: np.ndarray) -> np.ndarray:
    return np.minimum(np.int64(1) << low, sizes - (digit << low))


def frequencies(p: np.ndarray) -> np.ndarray:
    r"""Round probabilities (n, levels) to whole numbers of at least 2 that sum to ``TOTAL`` in every row.

    .. math:: f_i = 2 + \lfloor p_i (\text{TOTAL} - 2\, \text{levels}) \rfloor, \qquad
              \text{and what is left goes to the most probable.}

    Each is a function of its own row alone. :class:`InputError` for rows that sum to more than 1,
    or hold NaN.
    """
    levels = p.shape[1]
    free = TOTAL - LEAST * levels
    if not (np.isfinite(p).all() and free > 0):
        raise InputError(
            f"frequencies: probabilities must be finite, of fewer than {TOTAL // 2} levels; got {levels}"
        )
    table = np.floor(p * free).astype(np.int64)
    left = free - table.sum(1)
    if (left < 0).any() or (table < 0).any():
        raise InputError(
            "frequencies: probabilities must lie in [0, 1] and sum to 1; got others; normalise them"
        )
    table[np.arange(len(p)), p.argmax(1)] += left
    return table + LEAST


def whole(count: int) -> np.ndarray:
    """Sizes of as many positions in a table."""
    return np.full(count, TOTAL)


def intervals(table: np.ndarray, symbols: np.ndarray, row: np.ndarray) -> Intervals:
    """Return the intervals that ``symbols`` (n,) own of the frequencies (n, levels)."""
    places = np.arange(len(symbols))
    size = table[places, symbols]
    return Intervals(table.cumsum(1)[places, symbols] - size, size, row)
