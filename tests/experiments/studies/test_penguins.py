"""The study of penguins: its table, what it hides, and its plain imputations."""

import json
from pathlib import Path

import numpy as np
import pytest

from density.tables.columns import Column, Columns
from experiments.data.readers import read
from experiments.studies.penguin_table import CATEGORIES, NUMBERS, penguins, write_table
from experiments.studies.penguins import (
    OPTIONS,
    centres,
    hidden,
    imputation_errors,
    job,
    neighbours,
    split_folder,
)

COLUMNS = Columns(
    [Column("a", "numeric"), Column("b", "numeric"), Column("s", "categorical", ("x", "y"))]
)
NAN = np.nan


def table(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, count)
    return np.stack([rng.normal(6 * kind), rng.normal(-9 * kind, 2), kind], 1)


def test_the_table_is_read_as_three_categories_and_four_numbers(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", penguins())
    data = read(tmp_path / "a.csv")
    assert data.columns is not None
    assert data.values.shape == (344, 7)
    assert data.columns.names == (*CATEGORIES, *NUMBERS)
    assert data.columns.kinds == ("categorical",) * 3 + ("numeric",) * 4
    assert data.columns.sizes == (3, 3, 2, 0, 0, 0, 0)
    assert np.isnan(data.values).mean() == pytest.approx(0.05, abs=0.015)


def test_training_and_test_rows_are_those_of_the_table(tmp_path: Path) -> None:
    split_folder(tmp_path, split=3, table_seed=0)
    train = read(tmp_path / "train.csv").values
    test = read(tmp_path / "test.csv").values
    assert len(train) == 275
    assert len(test) == 69
    write_table(tmp_path / "all.csv", penguins(0))
    everything = read(tmp_path / "all.csv").values
    both = np.nan_to_num(np.concatenate([train, test]), nan=-1)
    np.testing.assert_array_equal(
        both[np.lexsort(both.T)], (rows := np.nan_to_num(everything, nan=-1))[np.lexsort(rows.T)]
    )


def test_the_options_of_the_study_are_options_of_the_command(tmp_path: Path) -> None:
    config = job(tmp_path, 0, 5).config
    assert {name: config.flat()[name] for name in OPTIONS} == OPTIONS


def test_a_fifth_of_the_observed_cells_is_hidden() -> None:
    values = np.where(np.random.default_rng(0).random((500, 4)) < 0.1, NAN, 1.0)
    x, is_hidden = hidden(values, seed=0)
    assert is_hidden.sum() / (~np.isnan(values)).sum() == pytest.approx(0.2, abs=0.04)
    assert np.isnan(x[is_hidden]).all()
    assert not is_hidden[np.isnan(values)].any()


def test_errors_are_those_of_the_hidden_cells_in_deviations() -> None:
    truth = table(50)
    is_hidden = np.zeros(truth.shape, bool)
    is_hidden[0, :] = True
    filled = truth.copy()
    filled[0] = [truth[0, 0] + 2 * truth[:, 0].std(), truth[0, 1], 1 - truth[0, 2]]
    filled[1] += 100
    errors = imputation_errors(filled, truth, is_hidden, truth, COLUMNS)
    assert errors["number_rmse"] == pytest.approx(np.sqrt(4 / 2))
    assert errors["category_error"] == 1


def test_the_centres_are_mean_and_most_frequent_value() -> None:
    train = np.array([[1.0, 4, 1], [3, NAN, 1], [NAN, 6, 0]])
    np.testing.assert_array_equal(centres(train, COLUMNS), [2, 5, 1])


def test_neighbours_fill_numbers_and_categories_from_their_group() -> None:
    train = table(200)
    x = np.array([[6.0, NAN, NAN], [NAN, 0.0, 0.0]])
    filled = neighbours(train, x, COLUMNS)
    assert filled[0, 2] == 1
    assert filled[0, 1] == pytest.approx(-9, abs=3)
    assert filled[1, 0] == pytest.approx(0, abs=2)
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])


def test_the_page_has_the_numbers_of_the_study() -> None:
    root = Path(__file__).parents[3]
    results = json.loads((root / "experiments" / "results" / "penguins.json").read_text())[
        "results"
    ]
    page = (root / "docs" / "results" / "density.md").read_text(encoding="utf-8")
    for name in ("vae", "mixture", "gaussian", "independent"):
        nll = results["nll_nats_per_row"][name]
        assert f"{nll['mean']:.2f}" in page
        assert f"± {nll['sd']:.2f} |" in page
    for errors in results["imputation"].values():
        rmse = errors["number_rmse"]["mean"]
        wrong = 100 * errors["category_error"]["mean"]
        assert f"{rmse:.2f} / {wrong:.0f}%" in page
    difference = results["nll_vae_minus_mixture"]
    assert f"by {difference['mean']:.2f} ± {difference['sd']:.2f} nats" in page
