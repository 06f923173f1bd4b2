"""The study of step sizes: its grid, its decades, its verdict, and validation at other weights."""

import argparse
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.studies import step_size
from experiments.studies.step_size import ARMS, RATES, decades, grid, markdown
from experiments.studies.step_size_tasks import Switched, eighths
from experiments.training.task import Progress
from univae.checkpoint import JsonObject


def results(task: str, wide: str = "") -> dict[str, JsonObject]:
    """Return an NLL of 100 at 1e-3 in every arm, 20 more a decade off it; near it all of ``wide``.

    The best starts have two seeds, of 99 and 101.
    """
    runs: dict[str, JsonObject] = {}
    for arm in ARMS:
        slope = 0.2 if arm == wide else 20.0
        for start in RATES:
            nll_nats = 100 + slope * abs(math.log10(start / 1e-3))
            runs[f"{task}|{arm}|{start:g}|0"] = {"nll_nats": nll_nats}
        runs[f"{task}|{arm}|0.001|0"] = {"nll_nats": 99.0}
        runs[f"{task}|{arm}|0.001|1"] = {"nll_nats": 101.0}
    runs[f"{task}|adamw, cosine|1|0"] = {"failed": "the loss is nan"}
    return runs


def tables(wide: str = "") -> JsonObject:
    return {task: grid(results(task, wide), task, range(3)) for task in ("text", "table")}


def test_starts_are_compared_with_the_best_of_the_tuned_arms() -> None:
    rows = {row["arm"]: row for row in tables()["text"]}
    row = rows["adamw, cosine"]
    assert row["nll_nats"]["0.001"] == {
        "mean": 100.0,
        "sd": pytest.approx(2**0.5),
        "each": [99.0, 101.0],
    }
    assert row["to_best"]["0.01"] == pytest.approx(1.2)
    assert row["to_best"]["1"] is None
    assert row["failed"] == 1
    assert row["best_start"] == 1e-3
    assert row["decades"] == 0.0


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([True] * 6, 5.0),
        ([True, False, True, True, True, False], 2.0),  # a gap ends a series
        ([False, False, True, False, False, False], 0.0),
        ([False] * 6, None),
    ],
)
def test_decades_are_those_of_the_longest_series(near: list[bool], expected: float | None) -> None:
    assert decades(near) == expected


def test_the_verdict_names_what_is_within_five_percent_on_every_task() -> None:
    assert "No setting of EGDD stays within 5%" in markdown(tables())
    lines = markdown(tables("egdd, fast")).splitlines()
    assert "Of EGDD, `egdd, fast` stays within 5%" in lines[-1]
    assert "of the others: none" in lines[-1]
    assert "| egdd | +40% | +20% | **+0.0%** | +20% | +40% | +60% | 0 |" in lines
    mixed = {**tables("prodigy"), "table": tables()["table"]}
    assert "of the others: none" in markdown(mixed)
    assert "of the others: `prodigy`." in markdown(tables("prodigy"))


def test_results_without_ratios_have_no_table() -> None:
    assert markdown({"text": [{"arm": "egdd", "nll_nats": {}}]}) == ""


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    step_size.draw(tables(), tmp_path / "figures" / "step_size.png")
    assert (tmp_path / "figures" / "step_size.png").stat().st_size > 10_000


def test_only_starts_that_compete_run_with_all_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = results("digits", "egdd")
    ran: list[str] = []

    def run(jobs: list[step_size.Job]) -> dict[str, JsonObject]:
        ran.extend(job.name for job in jobs)
        return {job.name: first.get(job.name, {"nll_nats": 100.0}) for job in jobs}

    monkeypatch.setattr(step_size, "run_here", run)
    options = argparse.Namespace(out=tmp_path, seeds=3, digit_steps=5)
    step_size.train_grid(options, "digits")
    assert len(ran) == len(set(ran))
    more = [name for name in ran if not name.endswith("|0")]
    of_egdd = [name for name in more if "|egdd|" in name]
    assert len(of_egdd) == 2 * len(RATES)  # all are near
    assert len(more) - len(of_egdd) == 2 * (len(ARMS) - 1)  # one start of every other arm


def test_an_estimate_of_the_step_size_starts_instead_of_the_learning_rate(tmp_path: Path) -> None:
    options = argparse.Namespace(out=tmp_path, text_steps=5)
    prodigy = step_size.job(options, "text", "prodigy", 1e-4, 0).config
    assert (prodigy.lr, prodigy.d0, prodigy.lr_floor) == (1.0, 1e-4, 1.0)
    adamw = step_size.job(options, "text", "adamw, cosine", 1e-4, 0).config
    assert (adamw.lr, adamw.package) == (1e-4, "")


def test_measurements_are_cut_into_eighths_of_equal_counts() -> None:
    values = np.random.default_rng(0).standard_normal((800, 3)) ** 3
    levels = eighths(values)
    assert all((np.bincount(column, minlength=8) == 100).all() for column in levels.T)
    order = np.argsort(values[:, 1])
    assert (np.diff(levels[order, 1].astype(int)) >= 0).all()


class Averaging(torch.optim.SGD):
    """An optimizer whose weights to use are those to train at, plus one."""

    def eval(self) -> None:
        self._shift(1.0)

    def train(self) -> None:
        self._shift(-1.0)

    @torch.no_grad()
    def _shift(self, distance: float) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(distance)


class Weights:
    """A task whose metric is its weight."""

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.module.weight)

    def batches(self, epoch: int) -> list[int]:
        return [epoch]

    def load(self, item: int) -> Tensor:
        return torch.tensor([item])

    def weight(self, batch: Tensor) -> int:
        return len(batch)

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.module.weight.sum(), {}

    def validate(self, progress: Progress) -> JsonObject:
        return {"weight": self.module.weight.item()}


def test_validation_is_at_the_weights_to_use_and_training_goes_on_at_its_own() -> None:
    task = Switched(Weights())
    assert task.validate(Progress(0, 0.0)) == {"weight": 0.0}
    task.optimizer = Averaging(task.module.parameters(), lr=0.1)
    assert task.validate(Progress(0, 0.0)) == {"weight": 1.0}
    assert task.module.weight.item() == 0.0


@pytest.mark.parametrize("package", ["prodigy", "d-adaptation", "schedule-free"])
def test_every_package_makes_an_optimizer_from_the_start(package: str, tmp_path: Path) -> None:
    module = {"prodigy": "prodigyopt", "d-adaptation": "dadaptation"}.get(package, "schedulefree")
    pytest.importorskip(module)
    options = argparse.Namespace(out=tmp_path, table_steps=5)
    config = step_size.job(options, "table", package, 1e-2, 0).config
    task = Switched(Weights())
    build = task.builder(config)
    groups = build(task.module, config, torch.device("cpu")).param_groups
    name = "lr" if package == "schedule-free" else "d"
    assert all(group[name] == 1e-2 for group in groups)
    assert task.optimizer is not None
