"""The entropy coder: pop undoes push, every integer has one symbol, buckets are Gaussian masses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from density.coding.ans import TOTAL, Exhausted, Intervals, Stack, frequencies, intervals
from density.coding.buckets import BUCKETS, BucketGrid
from univae.errors import InputError

SEEDS = st.integers(0, 2**32 - 1)


def message(generator: np.random.Generator, words: int = 2000) -> Stack:
    return Stack(generator.integers(1, 2**32, words, dtype=np.uint32))


def table(generator: np.random.Generator, rows: int, levels: int) -> np.ndarray:
    """Frequencies from flat to nearly certain."""
    return frequencies(generator.dirichlet(np.full(levels, 10.0 ** generator.uniform(-3, 1)), rows))


@given(SEEDS, st.integers(2, 300))
def test_push_undoes_pop_and_pop_undoes_push(seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    rows = 50
    stack = message(generator)
    f = table(generator, rows, levels)
    before = stack.words()
    # any message is some message of these symbols: every integer belongs to a symbol
    drawn = stack.pop(f)
    stack.push(intervals(f, drawn, np.arange(rows)))
    assert np.array_equal(stack.words(), before)
    symbols = generator.integers(levels, size=rows)
    stack.push(intervals(f, symbols, np.arange(rows)))
    assert np.array_equal(stack.pop(f), symbols)
    assert np.array_equal(stack.words(), before)


@given(SEEDS)
def test_uniform_numbers_of_any_size_come_back_and_cost_their_logarithm(seed: int) -> None:
    generator = np.random.default_rng(seed)
    stack = message(generator)
    before = stack.words()
    bits = stack.bits
    sizes = np.concatenate(
        [[1, 2, 4095, 4096, 4097, 8192, TOTAL - 1, TOTAL], generator.integers(1, TOTAL + 1, 300)]
    )
    values = generator.integers(sizes)
    stack.push_uniform(values, sizes)
    assert stack.bits - bits == pytest.approx(
        np.log2(sizes).sum(), abs=32 + 300 / 2048 / math.log(2)
    )
    assert np.array_equal(stack.pop_uniform(sizes), values)
    assert np.array_equal(stack.words(), before)
    stack.push_uniform(sizes - 1, sizes)
    assert np.array_equal(stack.pop_uniform(sizes), sizes - 1)
    drawn = stack.pop_uniform(sizes)
    assert ((drawn >= 0) & (drawn < sizes)).all()
    stack.push_uniform(drawn, sizes)
    assert np.array_equal(stack.words(), before)


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_every_integer_of_a_table_belongs_to_exactly_one_symbol(levels: int) -> None:
    generator = np.random.default_rng(levels)
    rows = 12
    f = table(generator, rows, levels)
    f[0] = frequencies(np.eye(levels)[:1])  # certain
    assert f.min() >= 2
    assert (f.sum(1) == TOTAL).all()
    first = f.cumsum(1) - f
    for row in range(
        rows
    ):  # the coder's own intervals are these, to the first and the last integer of each
        for symbol in range(levels):
            for integer in (first[row, symbol], first[row, symbol] + f[row, symbol] - 1):
                assert ending_in(int(integer)).pop(f[row : row + 1])[0] == symbol


def ending_in(integer: int) -> Stack:
    """A message whose state ends in these 24 bits, which the coder looks up next."""
    return Stack(np.array([7, 5 * 2**24 + integer, 3], np.uint32))


def test_a_frequency_costs_its_share() -> None:
    generator = np.random.default_rng(0)
    n = 4000
    p = generator.dirichlet(np.ones(6), n)
    f = frequencies(p)
    stack = message(generator)
    bits = stack.bits
    symbols = (generator.random((n, 1)) > p.cumsum(1)).sum(1)
    symbol_intervals = intervals(f, symbols, np.zeros(n, np.int64))
    stack.push(symbol_intervals)
    assert stack.bits - bits == pytest.approx(
        -np.log2(p[np.arange(n), symbols]).sum(), rel=1e-4, abs=33
    )
    assert symbol_intervals.log_mass(1)[0] == pytest.approx(
        np.log(p[np.arange(n), symbols]).sum(), rel=1e-4
    )


def test_the_mass_of_a_datum_sums_its_own_symbols() -> None:
    symbol_intervals = Intervals(
        np.zeros(4, np.int64),
        np.array([TOTAL // 2, TOTAL // 4, TOTAL, TOTAL // 8]),
        np.array([0, 1, 1, 0]),
    )
    np.testing.assert_allclose(symbol_intervals.log_mass(3), [-math.log(16), -math.log(4), 0.0])


@pytest.mark.parametrize("p", [[[0.6, 0.6]], [[math.nan, 0.5]], [[-0.5, 1.4]]])
def test_a_row_that_is_no_distribution_is_refused(p: list[list[float]]) -> None:
    with pytest.raises(InputError, match=r"^frequencies: probabilities must"):
        frequencies(np.array(p))


def test_a_stack_that_is_too_short_names_the_missing_bits() -> None:
    stack = Stack(np.array([0, 2**8], np.uint32))
    assert stack.bits == 40
    stack.require(40)
    with pytest.raises(Exhausted) as error:
        stack.require(60)
    assert error.value.missing == 20


def gaussians(generator: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Means out to where no mass is, scales from a point to flat."""
    return generator.normal(0, 4, rows), np.exp(generator.normal(0, 3, rows))


@given(SEEDS)
def test_every_integer_belongs_to_exactly_one_bucket(seed: int) -> None:
    generator = np.random.default_rng(seed)
    grid = BucketGrid(generator.normal(size=5), np.exp(generator.normal(size=5)))
    mean, scale = gaussians(generator, 5)
    bucket = np.arange(BUCKETS)[:, None]
    start, size = grid.interval(bucket, mean, scale)
    assert size.min() >= 1
    assert (start[0] == 0).all()
    assert (start[-1] + size[-1] == TOTAL).all()
    assert (start[1:] == (start + size)[:-1]).all()
    position = generator.integers(TOTAL, size=(64, 5))
    position[0] = 0
    position[1] = TOTAL - 1
    bucket = grid.find(position, mean, scale)
    start, size = grid.interval(bucket, mean, scale)
    assert ((start <= position) & (position < start + size)).all()


def test_buckets_hold_the_mass_between_quantiles_of_the_grid() -> None:
    grid = BucketGrid(np.array([1.0]), np.array([2.0]))
    mean = np.array([1.7])
    scale = np.array([0.3])
    _, size = grid.interval(np.arange(BUCKETS)[:, None], mean, scale)
    edges = norm(1, 2).ppf(np.arange(BUCKETS + 1) / BUCKETS)
    np.testing.assert_allclose(
        size[:, 0] / TOTAL, np.diff(norm(1.7, 0.3).cdf(edges)), atol=4 * BUCKETS / TOTAL / 100
    )
    share = size[:, 0] / TOTAL
    centres = grid.centres(np.arange(BUCKETS)[:, None])[:, 0]
    # the share of the law that is spread over all buckets, lest one be empty
    spread = 2 * BUCKETS / TOTAL
    assert share @ centres == pytest.approx(1.7, abs=1e-3)
    variance = (1 - spread) * 0.3**2 + spread * (2**2 + 0.7**2)
    assert share @ (centres - 1.7) ** 2 == pytest.approx(variance, rel=1e-3)
    _, even = grid.interval(np.arange(BUCKETS)[:, None], np.array([1.0]), np.array([2.0]))
    assert set(np.unique(even)) <= {TOTAL // BUCKETS - 1, TOTAL // BUCKETS, TOTAL // BUCKETS + 1}
