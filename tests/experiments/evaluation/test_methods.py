"""One battery over every method of estimation; which options each reads; what it leaves null."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import make
from sklearn.datasets import load_wine
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from density.estimation.diagnostics import khat_threshold
from experiments import likelihood, train_density
from experiments.evaluation.annealing import OF_WEIGHTS, Annealing
from experiments.evaluation.automatic import Automatic
from experiments.evaluation.estimators import Estimator, Importance
from experiments.evaluation.methods import METHODS, Estimation
from experiments.evaluation.proposals import PROPOSALS, proposal
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scores import COLUMNS
from experiments.evaluation.until_precise import UntilPrecise
from experiments.reports.item_charts import scores
from univae.errors import InputError
from univae.latent.spherical import HypersphericalUniform

OPTIONS: dict[str, Any] = {
    "samples": 99,
    "proposal": "sobol",
    "width": 1.1,
    "degrees": 7.0,
    "standard_error": 0.1,
    "limit_samples": 999,
    "annealing_steps": 9,
    "chains": 9,
    "start": "prior",
}
NEEDS: dict[str, dict[str, Any]] = {  # further options without which one is refused
    "width": {"proposal": "widened"},
    "degrees": {"proposal": "student"},
    "limit_samples": {"standard_error": 0.1},
}


class Linear:
    """z ~ N(0, 1), x | z ~ N(z, 1), with a posterior that is a little too narrow."""

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(x / 2, 0.9 * math.sqrt(0.5)), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, 1.0), 1)


class OnSphere(Linear):
    def prior(self) -> Distribution:
        return Independent(HypersphericalUniform(3, (2,)), 1)


class Narrow(Linear):
    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(x / 2, 0.2), 1)


ESTIMATORS: dict[str, Estimator] = {
    "importance": Importance(400, "posterior"),
    "until precise": UntilPrecise(30, 0.02, 4000, "widened", {"width": 1.3}),
    "automatic": Automatic(100, None, 4000),
    "automatic until precise": Automatic(50, 0.05, 4000),
    "annealed": Annealing(6, 40, "posterior"),
    "annealed from the prior": Annealing(20, 40, "prior"),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_gives_the_exact_likelihood_within_five_standard_errors(name: str) -> None:
    x = torch.tensor([[0.3], [-1.0], [2.0]])
    exact = Normal(0.0, math.sqrt(2.0)).log_prob(x).squeeze(1)
    estimator = ESTIMATORS[name]
    estimator.check(Linear())
    rows = estimator.rows(Linear(), x, None)
    for row, value in zip(rows, exact.tolist(), strict=True):
        assert row.keys() >= {*COLUMNS, *estimator.columns, estimator.diagnostic.column}
        assert abs(row["log_likelihood"] - value) < 5 * row["standard_error"] + 1e-6
    totals = estimator.totals(ScoreColumns.of(rows))
    assert totals["count"] == 3
    mean = sum(row["log_likelihood"] for row in rows) / 3
    assert totals["log_likelihood_nats"] == pytest.approx(mean)
    variance = sum(row["standard_error"] ** 2 for row in rows)
    assert totals["standard_error_nats"] == pytest.approx(math.sqrt(variance) / 3)


class Shifted(Linear):
    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(x / 2 + 4, 0.2), 1)


def test_chains_reach_the_mass_that_importance_samples_miss() -> None:
    x = torch.tensor([[0.3], [-1.0], [2.0]])
    exact = Normal(0.0, math.sqrt(2.0)).log_prob(x).mean().item()
    missed = Importance(400, "posterior")
    totals = missed.totals(ScoreColumns.of(missed.rows(Shifted(), x, None)))
    assert totals["khat_unreliable"] == 1.0
    assert totals["log_likelihood_nats"] < exact - 5
    for start in ("prior", "posterior"):
        chains = Annealing(60, 20, start)
        reached = chains.totals(ScoreColumns.of(chains.rows(Shifted(), x, None)))
        error = reached["standard_error_nats"]
        assert abs(reached["log_likelihood_nats"] - exact) < 5 * error


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_figure_of_an_estimator_has_the_panels_of_its_numbers(name: str) -> None:
    estimator = ESTIMATORS[name]
    rows = estimator.rows(Linear(), torch.randn(6, 1), None)
    result = {**estimator.settings(), **estimator.totals(ScoreColumns.of(rows))}
    item = estimator.report_item(ScoreColumns.of(rows), result, estimator.title)
    labels = [chart.y_label for chart in scores(item)]
    assert labels[0] == "number of data"
    assert estimator.diagnostic.label in labels
    assert len(labels) == 1 + sum(
        item.get(panel) is not None for panel in ("ladder", "khat", "effective_chains", "samples")
    )
    assert item["title"] == estimator.title


# Options


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_a_method_does_not_read_is_refused(option: str, method: str) -> None:
    options = {option: OPTIONS[option], **NEEDS.get(option, {})}
    if option in METHODS[method].options:
        estimator = Estimation(method=method, **options).estimator
        assert isinstance(estimator, Estimator)
        assert estimator != Estimation(method=method).estimator
        return
    alone = {option: OPTIONS[option]}
    spelling = f"--{option.replace('_', '-')}"
    with pytest.raises(
        InputError, match=rf"{spelling} is for --method .*; got {spelling} .* leave it out"
    ):
        Estimation(method=method, **alone)


def test_the_sandwich_reads_the_options_of_chains() -> None:
    options = {"annealing_steps": 9, "chains": 8, "start": "prior"}
    simulation = Estimation(sandwich=5, **options).simulation
    assert simulation is not None
    assert (simulation.count, simulation.steps, simulation.chains) == (5, 9, 8)
    assert simulation.start == "prior"
    assert Estimation().simulation is None


@pytest.mark.parametrize("name", PROPOSALS)
@pytest.mark.parametrize("setting", ["width", "degrees"])
def test_a_proposal_takes_the_settings_of_its_row_alone(name: str, setting: str) -> None:
    options = {"proposal": name, setting: 3.5}
    if setting in PROPOSALS[name].settings:
        settings = Estimation(**options).estimator.settings()
        assert settings == {
            "samples": 128,
            "proposal": name,
            **PROPOSALS[name].settings,
            setting: 3.5,
        }
        assert proposal(name, {setting: 3.5}) != PROPOSALS[name].proposal
        return
    with pytest.raises(
        InputError,
        match=rf"--{setting} is for --proposal .*student.*; got --{setting} 3.5 "
        rf"with --proposal {name}; leave it out",
    ):
        Estimation(**options)


@pytest.mark.parametrize("setting", ["width", "degrees"])
def test_a_setting_of_none_is_the_default(setting: str) -> None:
    assert proposal("student", {setting: None}) == PROPOSALS["student"].proposal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit_samples": 500}, "--limit-samples is for --standard-error; got .* 500 alone"),
        ({"standard_error": 0.1, "samples": 20}, "between 21 .* got --samples 20"),
        (
            {"standard_error": 0.1, "samples": 200, "limit_samples": 100},
            "and --limit-samples 100; got --samples 200",
        ),
        ({"standard_error": 0.0}, "standard_error must be above 0; got standard_error=0"),
        ({"width": math.inf, "proposal": "widened"}, "width must be at most"),
        ({"chains": 1, "method": "annealed"}, "chains must be at least 2"),
        ({"annealing_steps": 1, "method": "annealed"}, "annealing_steps must be at least 2"),
    ],
)
def test_values_out_of_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Estimation(**options)


# What is null, and why


def test_chains_have_no_numbers_of_importance_weights_and_say_so() -> None:
    estimator = Annealing(4, 6, "posterior")
    rows = estimator.rows(Linear(), torch.randn(5, 1), None)
    for row in rows:
        assert row["khat"] is row["elbo"] is row["effective_samples"] is None
        assert 1 <= row["effective_chains"] <= 6
        assert 0 < row["acceptance"] <= 1
    totals = estimator.totals(ScoreColumns.of(rows))
    note = totals["notes"][-1]
    for name in OF_WEIGHTS:
        assert totals[name] is None
        assert name in note
    values = sorted(row["effective_chains"] for row in rows)
    assert totals["effective_chains_median"] == pytest.approx(values[2])
    acceptance = sum(row["acceptance"] for row in rows) / 5
    assert totals["acceptance_mean"] == pytest.approx(acceptance)
    many = [row | {"effective_chains": 2.0} for row in rows]
    assert estimator.totals(ScoreColumns.of(many))["notes"] == [note]
    few = [row | {"effective_chains": 1.9} for row in rows[:2]] + many[2:]
    first, last = estimator.totals(ScoreColumns.of(few))["notes"]
    assert first.startswith("2 of 5 data have fewer than 2 effective chains")
    assert last == note
    shown = estimator.report_item(ScoreColumns.of(few), {}, "title")
    assert shown.get("khat") is None
    assert shown["ladder"] is None


def test_the_samples_that_an_error_took_are_stated() -> None:
    estimator = UntilPrecise(30, 0.05, 480, "posterior")
    rows = estimator.rows(Narrow(), torch.linspace(-3, 3, 12).unsqueeze(1), None)
    totals = estimator.totals(ScoreColumns.of(rows))
    samples = [row["samples"] for row in rows]
    assert all(30 <= count <= 480 for count in samples)
    assert totals["samples_mean"] == pytest.approx(sum(samples) / 12)
    assert totals["samples_largest"] == max(samples)
    assert totals["not_reached"] == sum(not row["reached"] for row in rows)
    assert totals["not_reached"] > 0
    assert (
        f"{totals['not_reached']} of 12 data did not reach a standard error of 0.05 nats"
        in (totals["notes"][-1])
    )


def row(samples: int, khat: float, **others: Any) -> dict[str, Any]:
    values = {"log_likelihood": -1.0, "standard_error": 0.1, "elbo": -2.0, "effective_samples": 9.0}
    return {**values, "khat": khat, "samples": samples, "reached": True, **others}


def test_the_khat_of_a_row_is_judged_by_the_samples_of_the_row() -> None:
    few, many = khat_threshold(30), khat_threshold(3000)
    between = (few + many) / 2
    estimator = UntilPrecise(30, 0.1, 3000, "posterior")
    totals = estimator.totals(ScoreColumns.of([row(30, between), row(3000, between)]))
    assert totals["khat_unreliable"] == 0.5
    assert totals["khat_threshold"] is None
    assert "from row to row (30 to 3000)" in totals["notes"][0]
    alike = estimator.totals(ScoreColumns.of([row(3000, between), row(3000, between)]))
    assert alike["khat_unreliable"] == 0.0
    assert alike["khat_threshold"] == pytest.approx(many)
    assert "notes" not in alike


@pytest.mark.parametrize("name", ["annealed", *PROPOSALS])
def test_what_moves_latents_refuses_those_of_a_sphere_by_its_option(name: str) -> None:
    estimator = Annealing(4, 4, "prior") if name == "annealed" else Importance(8, name)
    if name in ("posterior", "defensive", "auto"):
        estimator.check(OnSphere())
        return
    option = "--method annealed" if name == "annealed" else f"--proposal {name}"
    with pytest.raises(
        InputError,
        match=rf"^{option} needs latents on all of R\^d, .* HypersphericalUniform; use --",
    ):
        estimator.check(OnSphere())


# The command


def scored(run: str, tmp_path: Path, **options: Any) -> dict[str, Any]:
    torch.set_default_dtype(torch.float32)
    data = Path(make.__file__).parent / "data" / make.COMPRESSED.get(run, "texts.txt")
    folder = make.copy_run(run, tmp_path)
    config = likelihood.Config(run=folder, data=str(data), limit=4, device="cpu", **options)
    return likelihood.main(config)


@pytest.mark.slow
def test_chains_and_samples_agree_on_a_trained_run(tmp_path: Path) -> None:
    chains = {"annealing_steps": 10, "chains": 8}
    annealed = scored("text", tmp_path / "a", method="annealed", **chains)
    sampled = scored("text", tmp_path / "b", samples=400)
    error = math.hypot(annealed["standard_error_nats"], sampled["standard_error_nats"])
    difference = annealed["log_likelihood_nats"] - sampled["log_likelihood_nats"]
    assert abs(difference) < 5 * error + 1e-3
    assert (annealed["method"], sampled["method"]) == ("annealed", "importance")


@pytest.mark.parametrize("run", ["images", "table"])
def test_a_run_is_scored_by_chains_and_its_page_says_so(run: str, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    chains = {"annealing_steps": 5, "chains": 4}
    result = scored(run, tmp_path, method="annealed", out=out, **chains)
    assert result.keys() >= {"annealing_steps", "chains", "start", "acceptance_mean"}
    assert "bits_per_dim" in result
    # a few steps do not suffice for these runs of twelve training steps
    assert "4 of 4 data have fewer than 2 effective chains" in result["notes"][0]
    head, first = out.read_text(encoding="utf-8").splitlines()[:2]
    cells = dict(zip(head.split(","), first.split(","), strict=True))
    assert cells["khat"] == cells["elbo_nats"] == ""
    assert float(cells["effective_chains"]) >= 1
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "4 annealed chains of 5 steps from the posterior" in page
    assert "elbo_nats, effective_samples_median" in page
    assert "cannot be shown" not in page


@pytest.mark.parametrize("option", [{"method": "annealed"}, {"sandwich": 3}])
def test_a_spherical_run_is_refused_before_its_data_are_scored(
    option: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^--(method annealed|sandwich) needs latents"):
        scored("text_vmf", tmp_path, **option)


def test_the_default_says_how_each_datum_was_estimated_and_whether_to_trust_it(
    tmp_path: Path,
) -> None:
    out = tmp_path / "scores.csv"
    result = scored("text", tmp_path, samples=64, out=out)
    plain = scored("text", tmp_path / "plain", samples=64, proposal="posterior")
    assert result["proposal"] == "auto"
    # the bound is the model's own, whatever the proposal is
    assert result["elbo_nats"] == pytest.approx(plain["elbo_nats"], abs=0.5)
    head, *lines = out.read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(head.split(","), line.split(","), strict=False)) for line in lines]
    assert all(row["reliable"] in ("True", "False") for row in rows)
    assert result["unreliable"] == sum(row["reliable"] == "False" for row in rows) / 4
    for name in ("refined", "annealed"):
        assert result[name] == sum(row[name] == "True" for row in rows) / 4
    assert result["samples_largest"] == max(int(row["samples"]) for row in rows) >= 64


@pytest.mark.slow
def test_the_limit_of_samples_holds_for_the_default_too(tmp_path: Path) -> None:
    result = scored("text", tmp_path, samples=30, standard_error=1e-4, limit_samples=40)
    assert result["samples_largest"] <= 40
    assert result["unreliable"] == 1.0


def test_a_run_is_scored_to_a_standard_error(tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    options = {
        "samples": 32,
        "standard_error": 0.5,
        "limit_samples": 256,
        "proposal": "posterior",
    }
    result = scored("text", tmp_path, out=out, **options)
    assert result["limit_samples"] == 256
    assert result["samples_largest"] <= 256
    assert ",samples,reached," in out.read_text(encoding="utf-8").splitlines()[0]
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "to a standard error of 0.5 nats, at most 256" in page
    assert "cannot be shown" not in page


@pytest.mark.parametrize("proposal", [pytest.param("auto", marks=pytest.mark.slow), "refined"])
def test_a_datum_without_probability_leaves_the_others_their_estimates(
    tmp_path: Path, proposal: str
) -> None:
    torch.set_default_dtype(torch.float32)
    table = load_wine().data[:4].copy()
    table[1, 0] = 1e30
    np.save(tmp_path / "outlier.npy", table)
    folder = tmp_path / "run"
    train_density.train(
        train_density.Config.of(
            data="wine", out=folder, latents=(4,), hidden=(32,), steps=60, lr=4e-3, threads=1
        )
    )
    out = tmp_path / "scores.csv"
    config = likelihood.Config(
        run=folder,
        data=str(tmp_path / "outlier.npy"),
        samples=100,
        proposal=proposal,
        device="cpu",
        out=out,
    )
    result = likelihood.main(config)
    assert result["not_finite"] == {"count": 1, "rows": [1]}
    head, *lines = out.read_text(encoding="utf-8").splitlines()
    place = head.split(",").index("log_likelihood_nats")
    values = [float(line.split(",")[place]) for line in lines]
    assert [math.isfinite(value) for value in values] == [True, False, True, True]
