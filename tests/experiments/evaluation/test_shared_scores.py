"""The scores of data that several processes share, or that are split by hand."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import evaluate, likelihood
from experiments.evaluation.estimators import Importance
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scorer import ScoringTask
from experiments.text.scorer import TextScorer

GOLDEN = Path(__file__).parents[2] / "golden"
DATA = GOLDEN / "data"


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / name / "run", folder / name))


def numbers(path: Path) -> np.ndarray:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ("log_likelihood_nats", "standard_error_nats", "elbo_nats", "khat")
    return np.array([[float(row[name]) for name in columns] for row in rows])


@pytest.mark.slow  # starts three processes
@pytest.mark.parametrize(
    ("name", "file", "module"),
    [("text", "texts.txt", "likelihood"), ("table", "table.npy", "evaluate")],
)
def test_two_processes_return_and_write_what_one_does(
    name: str, file: str, module: str, tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    run = copied(name, tmp_path)
    options = ["--data", DATA / file, "--proposal", "sobol", "--samples", 32, "--limit", 21]
    results = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.csv"
        results.append(started(processes, f"experiments.{module}", run, *options, "--out", out))
    np.testing.assert_allclose(numbers(tmp_path / "2.csv"), numbers(tmp_path / "1.csv"), rtol=1e-9)
    one, two = results
    assert one.keys() == two.keys()
    assert two["count"] == 21
    for key, value in one.items():
        if isinstance(value, float):
            assert two[key] == pytest.approx(value, rel=1e-9), key
        else:
            assert two[key] == value, key


@pytest.mark.slow
def test_the_first_lines_and_the_halves_of_a_file_have_the_scores_of_the_whole(
    tmp_path: Path,
) -> None:
    torch.set_default_dtype(torch.float32)
    run = copied("text", tmp_path)
    lines = (DATA / "texts.txt").read_text(encoding="utf-8").splitlines()[:24]
    whole = tmp_path / "whole.txt"
    whole.write_text("\n".join(lines) + "\n", encoding="utf-8")
    second = tmp_path / "second.txt"
    second.write_text("\n".join(lines[12:]) + "\n", encoding="utf-8")

    def scored(data: Path, limit: int = 0) -> np.ndarray:
        out = tmp_path / f"{data.stem}{limit}.csv"
        likelihood.main(
            likelihood.Config(
                run=run, data=str(data), out=out, limit=limit, proposal="defensive", samples=24
            )
        )
        return numbers(out)

    scores = scored(whole)
    np.testing.assert_allclose(scored(whole, 5), scores[:5], rtol=1e-6)
    np.testing.assert_allclose(scored(second), scores[12:], rtol=1e-6)


def test_copies_of_a_text_have_the_error_of_one(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = copied("text", tmp_path)
    errors = {}
    for count in (1, 9):
        data = tmp_path / f"{count}.txt"
        data.write_text("a cat sees the blue dog\n" * count, encoding="utf-8")
        estimator = Importance(24, "defensive")
        task = ScoringTask(run, "cpu", str(data), 0, estimator)
        with torch.no_grad():
            result = estimator.totals(ScoreColumns.of(TextScorer(task).rows()))
        keys = ("standard_error_nats", "bootstrap_standard_error_nats")
        errors[count] = [result[key] for key in keys]
    assert errors[9] == pytest.approx(errors[1], rel=1e-5)


def test_the_bound_of_evaluate_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = copied("table", tmp_path)
    rows = np.load(DATA / "table.npy")[:30]
    bounds = []
    for name, order in (("ahead", 1), ("back", -1)):
        np.save(tmp_path / f"{name}.npy", rows[::order])
        config = evaluate.Config(run=run, data=str(tmp_path / f"{name}.npy"), samples=24)
        bounds.append(evaluate.main(config)["elbo_nats"])
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-6)


def test_shares_of_blocks_are_put_back_in_order() -> None:
    class Three:
        rank, size = 1, 3

        def gather(self, value: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
            return [block[rank::3] for rank in range(3)]

    block = [{"row": row} for row in range(7)]
    task = ScoringTask(Path(), "cpu", "", 0, Importance(1, "posterior"), processes=Three())
    assert [row["row"] for row in block[task.share]] == [1, 4]
    assert task.all_rows(block[task.share]) == block
