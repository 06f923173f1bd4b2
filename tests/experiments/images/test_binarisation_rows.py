"""Every row of the registry of binarisations: what data are in training and in validations."""

import math

import numpy as np
import pytest
import torch

from experiments.data.arrays import Data
from experiments.data.readers import read
from experiments.images.binarisation import BINARISATIONS, require_levels
from univae.errors import InputError

every_binarisation = pytest.mark.parametrize("name", BINARISATIONS)


@pytest.fixture
def digits() -> Data:
    return read("digits")


@every_binarisation
def test_what_auto_stands_for_stands_for_itself(name: str, digits: Data) -> None:
    settled = BINARISATIONS[name].settled(digits)
    assert BINARISATIONS[settled].settled(digits) == settled
    assert (settled == name) == (name != "auto")
    assert BINARISATIONS[settled].is_binary == (name != "none")


@every_binarisation
def test_real_numbers_stay_or_are_refused(name: str) -> None:
    wine = read("wine")
    if name in ("none", "auto"):
        assert BINARISATIONS[name].settled(wine) == "none"
        return
    with pytest.raises(InputError, match=f"binarisation={name} needs grey levels; wine has real"):
        BINARISATIONS[name].settled(wine)


@every_binarisation
def test_validations_see_the_same_levels_at_every_call(name: str, digits: Data) -> None:
    row = BINARISATIONS[name]
    first = row.fixed(digits, seed=1)
    assert first.levels == row.level_count(digits.levels)
    assert np.array_equal(first.values, row.fixed(digits, seed=1).values)
    assert int(first.values.max()) == row.level_count(digits.levels) - 1
    require_levels(first, row.level_count(digits.levels), "held-out data")


@every_binarisation
def test_a_visit_has_the_levels_of_the_model_and_the_marginals_of_calibration(
    name: str, digits: Data
) -> None:
    row = BINARISATIONS[name]
    train = row.training_set(digits, seed=1)
    x = train.batch(np.arange(20))
    visits = torch.stack([row.visit(x, train.levels) for _ in range(300)])
    assert set(visits.unique().tolist()) <= set(range(row.level_count(digits.levels)))
    expected = row.marginal_rows(x, train.levels)
    # 1280 pixels at five standard errors
    assert (visits.mean(0) - expected).abs().max() <= 5 * 0.5 / math.sqrt(300)


@every_binarisation
def test_only_visits_that_are_drawn_differ(name: str, digits: Data) -> None:
    row = BINARISATIONS[name]
    train = row.training_set(digits, seed=1)
    x = train.batch(np.arange(20))
    same = torch.equal(row.visit(x, train.levels), row.visit(x, train.levels))
    assert same == ("again" not in BINARISATIONS[row.settled(digits)].summary)
