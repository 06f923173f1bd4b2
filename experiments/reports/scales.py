"""Axes of a chart: the positions of numbers between 0 and 1, and round ticks with their text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["Linear", "Logarithmic", "Scale", "linear_ticks", "log_ticks", "scale_of", "tick_texts"]

MOST_TICKS = 5
STEPS = (1, 2, 2.5, 5, 10)  # ticks are multiples of these times a power of ten
DECADE = (1, 2, 5)  # ticks within a decade
FEW_DECADES = 2.5  # fewer have ticks within each decade
MARGIN = 0.04  # of the range, below the lowest and above the highest number
EPSILON = 1e-9  # of a step: tolerance of the first and the last tick
LARGEST = 1e100  # larger numbers are at the edge
SMALLEST_SPAN = 1e-100
THOUSANDS = 1e4  # from here on in thousands
MILLIONS = 1e7  # from here on in millions
SMALLEST = 1e-3  # below with an exponent


@runtime_checkable
class Scale(Protocol):
    """Maps numbers to positions: 0 is the low end of the axis, 1 the high one."""

    @property
    def ticks(self) -> list[float]:
        """The numbers with a tick."""
        ...

    def positions(self, values: np.ndarray) -> np.ndarray:
        """Return positions; those of numbers outside the axis lie outside [0, 1]."""
        ...


@dataclass(frozen=True)
class Linear:
    """Equal differences have equal lengths."""

    low: float
    high: float

    @property
    def ticks(self) -> list[float]:
        """Round numbers at equal distances."""
        return linear_ticks(self.low, self.high)

    def positions(self, values: np.ndarray) -> np.ndarray:
        """Return (v - low) / (high - low)."""
        return (values - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Logarithmic:
    """Equal ratios have equal lengths; the ends are above 0."""

    low: float
    high: float

    @property
    def ticks(self) -> list[float]:
        """Powers of ten, with 2 and 5 times these where there are few; round numbers otherwise."""
        return log_ticks(self.low, self.high)

    def positions(self, values: np.ndarray) -> np.ndarray:
        """Return log(v / low) / log(high / low); NaN below 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (np.log(values) - math.log(self.low)) / math.log(self.high / self.low)


def scale_of(values: np.ndarray, *, is_log: bool = False, margin: float = MARGIN) -> Scale:
    """Return the scale of an axis that shows all finite values.

    A logarithmic scale needs numbers above 0; where one is not, the scale is linear. A linear scale
    whose lowest number is 0 begins there.
    """
    numbers = np.clip(values[np.isfinite(values)], -LARGEST, LARGEST)
    if not len(numbers):
        return Linear(0.0, 1.0)
    low = float(numbers.min())
    high = float(numbers.max())
    is_point = high - low <= max(EPSILON * max(abs(low), abs(high)), SMALLEST_SPAN)
    if is_log and low > SMALLEST_SPAN:
        factor = 2.0 if is_point else (high / low) ** margin
        return Logarithmic(low / factor, high * factor)
    room = margin * (high - low)
    if is_point:
        room = max(abs(high) / 10, SMALLEST_SPAN) if high else 1.0
    return Linear(low - room if low else 0.0, high + room)


def linear_ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Return at most ``most`` + 1 multiples of a round number within the range.

    >>> linear_ticks(0.0, 103.0), linear_ticks(-0.1, 1.02)
    ([0.0, 25.0, 50.0, 75.0, 100.0], [0.0, 0.25, 0.5, 0.75, 1.0])
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in STEPS if power * factor >= rough * (1 - EPSILON))
    first = math.ceil(low / step - EPSILON)
    last = math.floor(high / step + EPSILON)
    return [_rounded(number * step) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers on a logarithmic axis.

    >>> log_ticks(0.8, 1200), log_ticks(3, 70), log_ticks(50, 90)
    ([1.0, 10.0, 100.0, 1000.0], [5.0, 10.0, 20.0, 50.0], [50.0, 60.0, 70.0, 80.0, 90.0])
    """
    first = math.floor(math.log10(low))
    last = math.ceil(math.log10(high))
    decades = math.log10(high / low)
    factors = DECADE if decades < FEW_DECADES else (1,)
    every = max(1, math.ceil(decades / MOST_TICKS))
    ticks = []
    for power in range(first, last + 1, every):
        for factor in factors:
            tick = factor * 10.0**power
            if low * (1 - EPSILON) <= tick <= high * (1 + EPSILON):
                ticks.append(_rounded(tick))
    return ticks if len(ticks) > 2 else linear_ticks(low, high)


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Return the texts of ticks, all with the same number of decimals and the same unit.

    >>> tick_texts([0.0, 0.5, 1.0]), tick_texts([0, 50_000]), tick_texts([1e-4, 2e-4])
    (['0.0', '0.5', '1.0'], ['0', '50k'], ['1e-4', '2e-4'])
    """
    largest = max(map(abs, ticks), default=0.0)
    if 0 < largest < SMALLEST:
        return [_exponent(tick) for tick in ticks]
    divisor = 1.0
    unit = ""
    if largest >= MILLIONS:
        divisor = 1e6
        unit = "M"
    elif largest >= THOUSANDS:
        divisor = 1e3
        unit = "k"
    scaled = [tick / divisor for tick in ticks]
    decimals = max((_decimals(tick) for tick in scaled), default=0)
    texts = []
    for tick in scaled:
        texts.append(f"{tick:.{decimals}f}{unit if tick else ''}")
    return texts


def _rounded(value: float) -> float:
    """Return a number without the errors of its last digits; 0 in place of -0."""
    return float(f"{value:.12g}") + 0.0


def _decimals(value: float) -> int:
    text = f"{value:.6f}".rstrip("0")
    return len(text.partition(".")[2])


def _exponent(value: float) -> str:
    if not value:
        return "0"
    mantissa, _, power = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
