"""The study of k-hat counts every run once, and the page of the documentation says what it found."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from density.estimation.diagnostics import khat_threshold
from experiments.studies import khat_coverage
from experiments.studies.khat_coverage import NOMINAL, Gaussians, bins, measure, verdicts

ROOT = Path(__file__).parents[3]


def test_the_evidence_is_that_of_the_exact_posterior() -> None:
    model = Gaussians(3, 1.0)
    x = torch.randn(5, 3)
    z = model.posterior(x).sample()
    log_w = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    torch.testing.assert_close(log_w - model.posterior(x).log_prob(z), model.evidence(x))


def test_a_wide_proposal_in_one_dimension_is_covered_as_a_normal_is() -> None:
    runs = measure(256, 2000, [1], [2.0])
    (row,) = verdicts(runs)
    assert row["khat"] == "reliable"
    assert abs(row["coverage"] - NOMINAL) < 5 * math.sqrt(NOMINAL * (1 - NOMINAL) / 2000)
    assert row["rms_standard_error_nats"] == pytest.approx(row["rms_error_nats"], rel=0.1)


def test_every_run_is_in_one_interval_and_has_one_verdict() -> None:
    runs = measure(32, 40, [1, 8], [0.1, 0.5, 2.0])
    for rows in (bins(runs), verdicts(runs)):
        assert sum(row["runs"] for row in rows) == 240
    mean = sum(row["coverage"] * row["runs"] for row in bins(runs)) / 240
    assert mean == pytest.approx((runs.error.abs() <= 2 * runs.standard_error).double().mean())
    # no k-hat at all: the last interval, and unreliable
    infinite = khat_coverage.Runs(32, torch.full((3,), math.inf), torch.ones(3), torch.ones(3))
    assert [row["above"] for row in bins(infinite)] == [1.0]
    assert [row["khat"] for row in verdicts(infinite)] == ["unreliable"]


def test_the_command_writes_its_tables_and_its_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--runs", "60", "--dimensions", "1", "--ratios", "0.5", "2", "--sizes", "24", "64"]
    files = ["--results", str(tmp_path / "a" / "r.json"), "--figure", str(tmp_path / "f" / "k.png")]
    monkeypatch.setattr(sys, "argv", ["khat_coverage", *options, *files])
    monkeypatch.setattr(khat_coverage, "FEWEST_RUNS", 5)
    khat_coverage.main()
    assert json.loads(capsys.readouterr().out) == json.loads(
        (tmp_path / "a" / "r.json").read_text()
    )
    content = json.loads((tmp_path / "a" / "r.json").read_text())
    assert "--runs 60" in content["command"]
    assert {row["samples"] for row in content["results"]["bins"]} == {24, 64}
    assert (tmp_path / "f" / "k.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_on_likelihoods_says_what_was_measured() -> None:
    page = (ROOT / "docs" / "how-to" / "likelihoods.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "figures" / "khat_coverage.png").exists()
    content = json.loads((ROOT / "experiments" / "results" / "khat_coverage.json").read_text())
    results = content["results"]
    for samples in (64, 256, 1024):
        rows = {row["khat"]: row for row in results["verdicts"] if row["samples"] == samples}
        lowest = next(row for row in results["bins"] if row["samples"] == samples)
        assert lowest["to"] == 0
        cells = [f"{samples}", f"{lowest['coverage']:.2f}"]
        for name in ("reliable", "unreliable"):
            cells += [f"{rows[name]['coverage']:.2f}", f"{rows[name]['mean_error_nats']:.2f}"]
        assert f"| {' | '.join(cells)} |" in page
        assert f"{khat_threshold(samples):.2f} for {samples}" in page
        assert sum(row["runs"] for row in rows.values()) == 84_000
    assert f"{results['ratios'][0]} to {results['ratios'][-1]:g} times" in page
    assert "1, 4 and 16 dimensions" in page
    assert results["dimensions"] == [1, 4, 16]


def test_the_page_says_what_known_evidence_showed() -> None:
    page = (ROOT / "docs" / "how-to" / "likelihoods.md").read_text(encoding="utf-8")
    content = json.loads((ROOT / "experiments" / "results" / "known_evidence.json").read_text())
    pooled = content["results"]["all"]
    cases = content["results"]["cases"]
    decodes = {name: round(case["auto"]["decodes"]) for name, case in cases.items()}
    more = [f"{seed['within_two_errors']:.0%}" for seed in content["more_seeds"].values()]
    wrong = [seed["reliable_and_wrong"] for seed in content["more_seeds"].values()]
    words = " ".join(page.split())
    for claim in (
        f"Over {pooled['data']:,} data of known evidence",
        f"{pooled['within_two_errors']:.0%} of the estimates that it called reliable",
        f"{pooled['reliable_and_wrong']} were wrong (by four errors and 0.05 nats)",
        f"and {pooled['flagged']:.1%} were flagged",
        f"the judge, {pooled['reliable_and_wrong_plain']} were reliable and wrong",
        f"Two more seeds gave {' and '.join(more)}, and {max(wrong)} wrong",
        f"It costs {decodes['exact posterior']} times the decodes",
        f"{decodes['two modes by symmetry']} and {decodes['two clusters in the prior']} times in",
    ):
        assert claim in words, claim


def test_the_page_says_what_a_calibration_changed() -> None:
    page = (ROOT / "docs" / "how-to" / "likelihoods.md").read_text(encoding="utf-8")
    content = json.loads((ROOT / "experiments" / "results" / "calibration.json").read_text())
    results = {name: run for entry in content["runs"] for name, run in entry["results"].items()}
    for name, label in (("demo", "docs"), ("ptb", "PTB")):
        shares = []
        times = []
        for fit, words in (
            ("before", "before"),
            ("posterior", "posterior fitted"),
            ("model", "model fitted"),
        ):
            row = results[name][fit]
            plain = row["posterior"]
            packed = row["compressed"]
            cells = [
                f"{label}, {words}",
                f"{row['elbo_nats']:.1f}",
                f"{plain['log_likelihood_nats']:.1f}",
                f"{plain['effective_samples_median']:.1f}",
                f"{plain['khat_above_0.7']:.0%}",
                f"{row['mutual_information_nats']:.2f}",
                f"{row['shuffled_gap_nats']:.1f}",
                f"{row['reconstructed_words']:.2f}",
                "" if packed is None else f"{packed['bits_per_char']:.3f}",
            ]
            assert f"| {' | '.join(cells)} |".replace("  ", " ") in page
            shares.append(f"{row['auto']['khat_above_0.7']:.0%}")
            auto = row["auto"]["processor_seconds_per_text"]
            times.append(f"{auto / plain['processor_seconds_per_text']:.0f}")
        assert f"{', '.join(shares)} ({label})" in page
        assert ", ".join(times) in page
