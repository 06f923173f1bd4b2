"""Black and white from grey levels: probabilities of the samples, seeds, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from experiments.data.arrays import Data
from experiments.data.binarisation import binarise, redraw
from experiments.data.readers import read
from univae.errors import InputError


def ramp(count: int, levels: int = 17) -> Data:
    values = np.broadcast_to(np.arange(levels, dtype=np.uint8), (count, levels))
    return Data(np.ascontiguousarray(values), levels, None, "ramp", "table")


def test_static_binarisation_is_drawn_once_with_the_probability_of_the_grey() -> None:
    data = binarise(ramp(5000), "static", seed=1)
    assert (data.levels, data.name) == (2, "ramp, static binarisation")
    p = np.arange(17) / 16
    # black and white stay
    assert (np.abs(data.values.mean(0) - p) <= 5 * np.sqrt(p * (1 - p) / 5000)).all()
    assert np.array_equal(binarise(ramp(5000), "static", seed=1).values, data.values)
    assert not np.array_equal(binarise(ramp(5000), "static", seed=2).values, data.values)
    assert not np.array_equal(data.values[:500], data.values[4096 : 4096 + 500])  # chunks differ


def test_dynamic_binarisation_is_drawn_anew_at_every_visit() -> None:
    x = ramp(5000).batch(slice(None))
    a = redraw(x, 17)
    b = redraw(x, 17)
    assert set(a.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(a, b)
    p = torch.arange(17) / 16
    assert ((a.mean(0) - p).abs() <= 5 * (p * (1 - p) / 5000).sqrt()).all()


def test_a_threshold_is_half_of_the_highest_level() -> None:
    # 8 of 16 is not above half
    assert binarise(ramp(1), "threshold").values[0].tolist() == [0] * 9 + [1] * 8
    assert binarise(ramp(1, 256), "threshold").values[0].sum() == 128


@pytest.mark.parametrize(
    "change", [lambda d: binarise(d, "static"), lambda d: redraw(d.batch([0]), d.levels)]
)
def test_real_numbers_are_not_binarised(change: Callable[[Data], object]) -> None:
    with pytest.raises(
        InputError, match=r"--binarisation needs grey levels; got real numbers; choose"
    ):
        change(read("iris"))
