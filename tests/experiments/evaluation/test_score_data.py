"""Totals of scores count every row: those not finite are listed, and their means are null."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, Uniform

import density
from density.estimation.collapse import MutualInformation, ShuffledGap, verdict
from density.estimation.diagnostics import khat_threshold
from density.estimation.importance import estimate
from experiments.data.outputs import Output
from experiments.evaluation.latent_model import measure
from experiments.evaluation.resampled import BOOTSTRAP, JACKKNIFE, resampled_totals
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.score_table import Table
from experiments.evaluation.scores import (
    COLUMNS,
    perplexity,
    report_item,
    rows_of,
    rungs,
    totals,
)
from experiments.reports.validations import best_validation
from experiments.text.task import measure_texts
from experiments.training import command
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from univae.checkpoint import read_json, to_json
from univae.vae.model import UniVAE, UniVAEConfig


def row(log_likelihood: float, khat: float = 0.1, **others: float) -> dict[str, Any]:
    values = {
        "standard_error": 0.1,
        "elbo": log_likelihood - 1,
        "effective_samples": 50.0,
        **others,
    }
    return {
        "log_likelihood": log_likelihood,
        "khat": khat,
        **values,
        "ladder": [log_likelihood] * len(rungs(100)),
    }


def test_rows_that_are_not_finite_are_counted_and_the_first_ten_named() -> None:
    rows = [row(-1.0) for _ in range(20)]
    for i in range(3, 15):
        rows[i] = row(-math.inf, math.inf, standard_error=math.inf, effective_samples=0.0)
    result = totals(ScoreColumns.of(rows), 100)
    assert result["not_finite"] == {"count": 12, "rows": list(range(3, 13))}
    assert result["log_likelihood_nats"] is None
    assert result["standard_error_over_data_nats"] is None
    assert result["elbo_nats"] is None
    assert result["effective_samples_median"] == 0.0
    assert result["khat_above_0.7"] == 12 / 20
    assert result["notes"][0].startswith(
        "log_likelihood is not finite for 12 of 20 rows "
        "(from 0: 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ...), so its mean is null: "
        "all their weights are zero"
    )


def test_finite_rows_have_their_means_and_no_note() -> None:
    result = totals(ScoreColumns.of([row(-1.0), row(-3.0)]), 100)
    assert result["log_likelihood_nats"] == -2.0
    assert result["standard_error_over_data_nats"] == pytest.approx(1.0)
    assert "not_finite" not in result
    assert "notes" not in result
    assert totals(ScoreColumns.of([row(-1.0)]), 100)["standard_error_over_data_nats"] is None


def test_the_errors_of_equal_data_are_added_in_totals() -> None:
    rows = [{**row(-1.0), BOOTSTRAP: 0.1, JACKKNIFE: -1.0, "datum": -7} for _ in range(64)]
    result = totals(ScoreColumns.of(rows), 100)
    assert result["standard_error_nats"] == pytest.approx(0.1)
    assert result["standard_error_over_data_nats"] == pytest.approx(0.1)
    assert resampled_totals(ScoreColumns.of(rows))[0][BOOTSTRAP] == pytest.approx(0.1)
    for i, each in enumerate(rows):
        each["datum"] = i
    result = totals(ScoreColumns.of(rows), 100)
    assert result["standard_error_nats"] == pytest.approx(0.1 / 8)
    assert result["standard_error_over_data_nats"] == 0.0
    assert resampled_totals(ScoreColumns.of(rows))[0][BOOTSTRAP] == pytest.approx(0.1 / 8)


def test_khat_counts_by_the_threshold_of_the_samples_and_where_it_is_no_number() -> None:
    rows = [row(-1.0, khat) for khat in (0.1, 0.6, 0.8, math.inf, math.nan)]
    result = totals(ScoreColumns.of(rows), 100)
    assert result["khat_above_0.7"] == 3 / 5
    assert result["khat_unreliable"] == 4 / 5
    assert result["khat_threshold"] == pytest.approx(0.5)
    shown = report_item(ScoreColumns.of(rows), result | {"samples": 100}, "title")
    assert shown["note"].startswith(
        "4 of 5 data have a k-hat above 0.50, the limit for 100 samples, or none"
    )


def test_one_sample_has_no_standard_error_and_says_so() -> None:
    result = totals(ScoreColumns.of([row(-1.0, math.inf, standard_error=math.inf)]), 1)
    assert result["standard_error_nats"] is None
    assert result["notes"] == [
        "standard_error is not finite for 1 of 1 rows (from 0: 0), so its mean is null: "
        "a single sample has no error, nor have weights that are all zero"
    ]


KHAT_KEYS = ("khat_above_0.7", "khat_unreliable", "khat_threshold")


@pytest.mark.parametrize("samples", [1, 20])
def test_too_few_samples_for_a_khat_give_null_and_the_reason(samples: int) -> None:
    rows = rows_of(density.log_weights(Linear(), torch.ones(3, 1), samples), 1)
    assert [scored["khat"] for scored in rows] == [None] * 3
    results = [
        totals(ScoreColumns.of(rows), samples),
        measure(Linear(), [torch.ones(3, 1)], samples, Bound).to_json(),
        measure(Broken(), [torch.ones(3, 1)], samples, Bound).to_json(),
    ]
    for result in results:
        assert [result[key] for key in KHAT_KEYS] == [None] * 3
        assert result["khat_note"] == "k-hat is undefined below 21 samples"
    shown = report_item(ScoreColumns.of(rows), results[0] | {"samples": samples}, "title")
    assert shown["note"].startswith("k-hat is undefined below 21 samples: draw more")
    assert shown["khat"] == [None] * 3


def test_samples_enough_for_a_khat_have_their_shares_and_no_note() -> None:
    rows = rows_of(density.log_weights(Linear(), torch.ones(3, 1), 21), 1)
    results = [
        totals(ScoreColumns.of(rows), 21),
        measure(Linear(), [torch.ones(3, 1)], 21, Bound).to_json(),
    ]
    for result in results:
        assert [result[key] for key in KHAT_KEYS] == [0.0, 0.0, khat_threshold(21)]
        assert "khat_note" not in result


def test_a_likelihood_of_bounded_support_has_honest_totals() -> None:
    x = torch.linspace(-1.5, 1.5, 7)[:, None]
    model = Within()
    result = totals(ScoreColumns.of(rows_of(density.log_weights(model, x, 2000), 1)), 2000)
    assert result["khat_unreliable"] == 0.0
    error = result["log_likelihood_nats"] - model.evidence(x).mean().item()
    assert abs(error) < 5 * result["standard_error_nats"]
    assert result["elbo_nats"] is None  # most weights are zero
    # some 20 samples above zero: nothing is known of their tail
    model.spread = 10.0
    result = totals(ScoreColumns.of(rows_of(density.log_weights(model, x, 1000), 1)), 1000)
    assert result["khat_unreliable"] > 0.5
    assert result["khat_threshold"] == pytest.approx(2 / 3)


def test_the_worst_rows_are_those_without_a_likelihood() -> None:
    rows = [row(value) for value in (-1.0, math.nan, -5.0, -math.inf, -1.0, *range(20))]
    least = ScoreColumns.of(rows).least_likely
    assert [each.number for each in least] == [1, 3, 2, 0, 4, 5, 6, 7, 8, 9]
    assert all(each.record is rows[each.number] for each in least)


def test_a_table_keeps_rows_that_are_not_finite(tmp_path: Path) -> None:
    with Table.open(Output(tmp_path / "scores.csv"), ()) as table:
        table.add(row(-math.inf, math.inf))
    with (tmp_path / "scores.csv").open(encoding="utf-8") as file:
        (read,) = csv.DictReader(file)
    assert read["log_likelihood_nats"] == "-inf"
    assert list(read)[1:] == [f"{name}_nats" if name in COLUMNS[:3] else name for name in COLUMNS]


@pytest.mark.parametrize("nll", [710.0, 1e6, math.inf, math.nan])
def test_a_perplexity_beyond_the_range_of_a_float_is_none(nll: float) -> None:
    assert perplexity(nll, 1) is None
    assert perplexity(709.0, 1) == pytest.approx(math.exp(709.0))


class Linear:
    """z ~ N(0, 1), x | z ~ N(z, 1), with the exact posterior."""

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(x / 2, math.sqrt(0.5)), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, 1.0), 1)


class Within(Linear):
    """z ~ N(0, 1), x uniform within 1/4 of z, and a normal proposal around x."""

    spread = 1.0

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(x, self.spread), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Uniform(z - 0.25, z + 0.25, validate_args=False), 1, validate_args=False)

    def evidence(self, x: Tensor) -> Tensor:
        return (
            (2 * torch.special.ndtr(x + 0.25) - 2 * torch.special.ndtr(x - 0.25)).log().squeeze(-1)
        )


class Bound:
    def __init__(self, x: Tensor) -> None:
        self.log_likelihood = torch.zeros(len(x))
        self.kl = torch.zeros(len(x), 1)


def test_one_held_out_datum_has_no_error_over_data_and_no_verdict() -> None:
    result = measure(Linear(), [torch.ones(1, 1)], 100, Bound).to_json()
    assert result["nll_standard_error"] is None
    assert result["mutual_information_nats"] is None
    assert result["active_units"] is None
    assert result["units"] == 1
    assert "cannot be judged by one held-out datum" in result["verdict"]
    assert result["khat_unreliable"] == 0.0
    both = measure(Linear(), [torch.ones(2, 1)], 100, Bound).to_json()
    assert both.keys() == result.keys()
    assert both["mutual_information_nats"] is not None


class Broken(Linear):
    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(x * math.nan, 1.0, validate_args=False), 1, validate_args=False)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, 1.0, validate_args=False), 1, validate_args=False)

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), 1.0, validate_args=False), 1, validate_args=False)


def test_a_model_of_nan_is_unreliable_and_its_units_are_not_counted() -> None:
    result = measure(Broken(), [torch.randn(4, 1)], 100, Bound).to_json()
    assert result["khat_above_0.7"] == result["khat_unreliable"] == 1.0
    assert result["active_units"] is None
    assert "cannot be judged" in result["verdict"]
    assert to_json(result)["nll_nats"] is None


def test_a_likelihood_that_is_not_finite_is_no_use_of_the_latent() -> None:
    gap = ShuffledGap(math.nan, math.nan)
    assert "cannot be judged" in verdict(MutualInformation(1.0, 2.0, 0.1), gap)
    assert "cannot be judged" in verdict(
        MutualInformation(math.nan, 2.0, 0.1), ShuffledGap(1.0, 0.1)
    )


def test_a_report_of_a_validation_without_numbers_is_written(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"command": "train-text"})
    rows = [
        {"nll_nats": None, "selection": None, "kl_nats": [None, 1.0]},
        {"nll_nats": 3.0, "kl_nats": [1.0, 2.0]},
    ]
    run.log("validation", 1, **rows[0])
    assert "kl_nats" not in best_validation(run)
    run.log("validation", 2, **rows[1])
    assert best_validation(run)["kl_nats"] == 3.0
    assert json.dumps(best_validation(run))


def test_texts_that_are_not_finite_count_neither_nats_nor_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = UniVAE(
        UniVAEConfig(vocab_size=9, width=8, heads=2, layers=1, latent_layers=1, latent_width=2)
    ).eval()
    texts = torch.tensor([[4, 5, 2, 0, 0], [3, 2, 0, 0, 0], [5, 6, 7, 8, 2]])
    torch.manual_seed(0)
    expected = measure_texts(model, texts[:2], 4)

    def spoilt(*arguments: Any, **options: Any) -> Any:
        result = estimate(*arguments, **options)
        longest = (arguments[1] != 0).sum(1) == 5
        return result._replace(log_likelihood=torch.where(longest, math.nan, result.log_likelihood))

    monkeypatch.setattr("experiments.evaluation.latent_model.estimate", spoilt)
    result = measure_texts(model, texts, 4)
    assert result["not_finite"] == [2]
    assert result["data"] == 2
    assert math.isfinite(result["shuffled_gap_nats"])
    assert result["bits_per_token"] == pytest.approx(result["nll_nats"] * 2 / 5 / math.log(2))
    assert abs(result["nll_nats"] - expected["nll_nats"]) < 3


def test_notes_of_a_validation_stand_beside_those_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", {"command": "train"})
    training = command.Training(
        run, Settings(steps=1), lambda world: None, {"texts_left_out": 2}, ["1 blank line"]
    )
    fitted = {"steps": 1, "notes": ["1 row not finite"]}
    monkeypatch.setattr(command, "fit", lambda steps, settings, run: fitted)
    result = command.train(run.path, Settings(device="cpu"), lambda world: training)
    assert result["notes"] == ["1 blank line", "1 row not finite"]
    assert result["texts_left_out"] == 2
    assert read_json(run.path / "DONE") == result


def test_what_is_measured_has_its_keys_in_order() -> None:
    keys = list(measure(Linear(), [torch.ones(2, 1)], 100, Bound).to_json())
    assert keys == [
        "nll_nats", "nll_standard_error", "nll_monte_carlo_error", "effective_samples_median",
        "khat_above_0.7", "khat_unreliable", "khat_threshold", "elbo_nats", "reconstruction_nats",
        "kl_nats", "active_units", "units", "mutual_information_nats",
        "mutual_information_ceiling_nats", "shuffled_gap_nats", "shuffled_gap_standard_error",
        "verdict", "samples", "data",
    ]  # fmt: skip
    none = measure(Broken(), [torch.ones(2, 1)], 100, Bound)
    assert list(none.not_finite) == [0, 1]
    assert keys == [key for key in keys if key in none.to_json() or key in ("kl_nats", "units")]
    assert list(none.to_json())[-2:] == ["not_finite", "notes"]
