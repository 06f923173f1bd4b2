"""The toys and their measures are what they say; a run of every method ends with its table."""

import argparse
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.benchmarks import gan_step
from experiments.studies import wgan_toys
from experiments.studies.wgan_toys import (
    METHODS,
    RATIO,
    best_rate,
    centres,
    jobs,
    measure,
    points,
    scale,
    train,
)
from gan.critic_loss import CriticLoss
from gan.metrics import exact_wasserstein


@pytest.fixture(autouse=True)
def _small_and_single(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(wgan_toys, "MEASURED", 300)


@pytest.mark.parametrize("toy", ["ring", "grid", "roll"])
def test_every_toy_has_a_deviation_of_about_one_and_real_data_are_near_their_modes(
    toy: Any,
) -> None:
    x = points(toy, 20_000, 0)
    assert 0.7 < x.std() < 1.6
    assert torch.equal(x, points(toy, 20_000, 0))
    row = measure(toy, points(toy, 5000, 7))
    assert 1 / 3 < row["wasserstein"] / row["floor"] < 3
    assert row["wasserstein"] < 0.3
    if toy != "roll":
        assert row["modes"] == len(centres(toy))
        # of a Gaussian in the plane within 4 sigma
        assert row["near"] == pytest.approx(1 - math.exp(-8), abs=1e-3)


def test_the_modes_that_are_missing_are_missed() -> None:
    x = points("grid", 20_000, 3)
    left = x[x[:, 0] < -0.3]  # two of five columns
    row = measure("grid", left)
    assert row["modes"] == 10
    assert row["near"] > 0.99
    assert row["wasserstein"] > 3 * row["floor"]
    between = x + 0.5 / scale("grid")
    assert measure("grid", between)["near"] < 0.01
    assert measure("grid", between)["wasserstein"] == pytest.approx(0.5, abs=0.15)
    assert exact_wasserstein(x[:50], x[:50]) == 0


@pytest.mark.slow
def test_every_method_trains_for_its_time(tmp_path: Path) -> None:
    given = argparse.Namespace(out=tmp_path, seconds=0.4)
    for method in METHODS:
        (job,) = jobs(given, "grid", method, [1e-3], [0])
        assert job.config.generator_lr == pytest.approx(RATIO * 1e-3)
        result = train(job.config)
        assert {"wasserstein", "modes", "near", "floor"} <= result.keys()
        assert 1 <= result["steps"] < 1000
    assert (tmp_path / "grid-gn-lr0.001-seed0" / "DONE").exists()


def test_the_rate_with_the_smallest_distance_is_chosen_among_those_that_ended(
    tmp_path: Path,
) -> None:
    given = argparse.Namespace(out=tmp_path, seconds=1.0)
    tried = jobs(given, "ring", "gn", [1e-4, 1e-3, 1e-2], [0])
    found = {
        tried[0].name: {"wasserstein": 0.3},
        tried[1].name: {"wasserstein": 0.2},
        tried[2].name: {"failed": "NaN"},
    }
    assert best_rate(found, tried) == 1e-3
    assert best_rate({job.name: {"failed": "NaN"} for job in tried}, tried) is None


@pytest.mark.slow
def test_the_benchmark_names_its_bars() -> None:
    parts = {
        "critic": gan_step.critics,
        "generator": gan_step.generators,
        "iteration": gan_step.iterations,
    }
    found = {name: timed(2, 2) for name, timed in parts.items()}
    assert found["critic"]["GN"]["bar"] == 1.0
    assert found["generator"]["GN, one pass"]["bar"] == 1.1
    assert found["iteration"]["GN"]["bar"] == 1.4
    assert found["generator"]["GN, second order"]["time_over_reference"] > 0


def test_the_step_that_is_compiled_has_the_gradients_of_ours() -> None:
    real = torch.rand(4, 1, 28, 28)
    fake = torch.rand(4, 1, 28, 28)
    critics = [gan_step.players(2)[1] for _ in range(2)]
    gan_step.critic_step(CriticLoss(critics[0], gan_step.RECIPES["GN"]), real, fake)()
    gan_step.functional_step(critics[1], real, fake)()
    for ours, theirs in zip(*(critic.parameters() for critic in critics), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)
