"""Splits and epochs: every text once, within the token budget, in batches of like lengths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from univae.errors import InputError
from univae.text import batches as batches_module
from univae.text.batches import split, token_batches


@given(
    count=st.integers(2, 300), fraction=st.floats(0.001, 0.999), seed=st.integers(-(2**63), 2**63)
)
def test_a_split_parts_all_indices_the_same_way_every_time(
    count: int, fraction: float, seed: int
) -> None:
    train, held_out = split(count, fraction, seed)
    assert sorted([*train, *held_out]) == list(range(count))
    assert len(held_out) == min(max(round(count * fraction), 1), count - 1)
    assert all((np.diff(side) > 0).all() for side in (train, held_out))
    assert np.array_equal(split(count, fraction, seed)[1], held_out)


def test_another_seed_is_another_split() -> None:
    assert not np.array_equal(split(100, 0.5, 0)[1], split(100, 0.5, 1)[1])


@given(
    lengths=st.lists(st.integers(1, 40), max_size=300),
    max_tokens=st.integers(40, 400),
    seed=st.integers(-5, 5),
    epoch=st.integers(0, 3),
)
@settings(deadline=None)
def test_every_text_comes_once_an_epoch_within_the_budget(
    lengths: list[int], max_tokens: int, seed: int, epoch: int
) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "WINDOW", 2)  # many windows of few texts
        batches, again = (token_batches(sizes, max_tokens, seed, epoch) for _ in range(2))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(
        len(batch) > 0 and len(batch) * sizes[batch].max() <= max_tokens for batch in batches
    )
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]


def realistic_lengths(count: int) -> np.ndarray:
    # a median of 25 tokens, 5 % over 66
    lengths = np.exp(np.random.default_rng(0).normal(3.2, 0.6, count))
    return np.clip(lengths, 2, 128).astype(np.int64)


@pytest.mark.parametrize(("count", "max_tokens"), [(2_000, 1024), (50_000, 4096), (50_000, 32_768)])
def test_padding_and_unused_budget_stay_small(count: int, max_tokens: int) -> None:
    lengths = realistic_lengths(count)
    batches = token_batches(lengths, max_tokens, seed=0, epoch=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert 1 - lengths.sum() / padded < 0.08  # measured: 3 to 6 %
    assert padded > 0.93 * max_tokens * (len(batches) - 1)  # every batch but the last is about full


def test_the_budget_holds_where_a_window_of_long_texts_meets_one_of_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches_module, "WINDOW", 2)
    lengths = np.random.default_rng(0).integers(1, 41, 5000)
    for batch in token_batches(lengths, 100, seed=0, epoch=0):
        assert len(batch) * lengths[batch].max() <= 100


def test_epochs_and_seeds_shuffle_texts_and_batches() -> None:
    lengths = realistic_lengths(20_000)
    first, second, other = (token_batches(lengths, 1024, *key) for key in [(0, 0), (0, 1), (1, 0)])
    partners = [
        {frozenset(batch.tolist()) for batch in batches} for batches in (first, second, other)
    ]
    assert not partners[0] & partners[1]
    assert not partners[0] & partners[2]
    means = np.array([lengths[batch].mean() for batch in first])
    correlation = np.corrcoef(means[1:], means[:-1])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(len(means))  # neighbours in time are unrelated in length


def test_a_text_over_the_token_budget_is_refused() -> None:
    with pytest.raises(InputError, match=r"a text has 70 tokens; got max_tokens=64; raise it"):
        token_batches(np.array([3, 70]), 64, 0, 0)


@pytest.mark.parametrize(
    ("count", "fraction", "message"),
    [
        (1, 0.5, "2 texts or rows at least are needed, one of them held out; got 1"),
        (10, 0.0, r"fraction must lie in \(0, 1\), a share; got fraction=0\.0"),
        (10, 1.0, r"fraction must lie in \(0, 1\), a share; got fraction=1\.0"),
    ],
)
def test_a_split_with_an_empty_side_is_refused(count: int, fraction: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(count, fraction, 0)


def test_batches_are_those_of_a_sort_by_window_and_length_of_a_permutation() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 5000)
    batches = token_batches(lengths, 64, seed=3, epoch=2)
    generator = np.random.default_rng([3, 2])
    order = generator.permutation(5000)
    window = np.arange(5000) // (50 * 64 * 5000 // lengths.sum())
    order = order[np.lexsort((np.arange(5000), lengths[order], window))]
    place = np.argsort(order)
    ordered = sorted((batch.tolist() for batch in batches), key=lambda batch: place[batch[0]])
    assert [row for batch in ordered for row in batch] == order.tolist()


def test_rows_take_four_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    train, held_out = split(1000, 0.1, 0)
    assert (train.dtype, held_out.dtype) == (np.int32, np.int32)
    monkeypatch.setattr(batches_module, "INT32_MAX", 999)
    wide = split(1000, 0.1, 0)
    assert wide[0].dtype == np.int64
    np.testing.assert_array_equal(wide[1], held_out)
