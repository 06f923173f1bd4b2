"""The arithmetic of scaling, and that docs/how-to/scaling.md says what was measured."""

import json
from pathlib import Path

import pytest
import torch

from experiments.studies.scaling_plan import Step, _operations

ROOT = Path(__file__).parents[3]
RESULTS = json.loads((ROOT / "experiments/results/scaling_plan.json").read_text())["results"]
PAGE = (ROOT / "docs" / "how-to" / "scaling.md").read_text(encoding="utf-8")


def test_a_ring_sends_each_gradient_twice_less_a_share() -> None:
    step = Step(parameters=10, operations=1.0, messages=1)
    assert step.bytes_sent(1) == 0
    assert step.bytes_sent(2) == 4 * 10
    assert step.bytes_sent(1000) == pytest.approx(2 * 4 * 10, rel=2e-3)


def test_gathered_rows_go_to_every_other_device_and_back() -> None:
    alone = Step(parameters=0, operations=1.0, messages=1, gathered=7.0)
    assert alone.bytes_sent(5) == 2 * 4 * 7


def test_overlapped_sending_costs_no_more_than_sending_afterwards() -> None:
    step = Step(parameters=10**8, operations=1e12, messages=4)
    for devices in (2, 8, 64, 1024):
        apart = step.share(devices, overlaps=False)
        assert 0 < apart <= step.share(devices, overlaps=True) <= 1


def test_a_product_of_matrices_and_its_gradients_are_counted() -> None:
    x = torch.randn(3, 5)
    w = torch.randn(5, 7, requires_grad=True)
    assert _operations(lambda: (x @ w).sum().backward()) == 2 * (2 * 3 * 5 * 7)


def test_two_processes_send_what_the_arithmetic_predicts() -> None:
    for kind, row in RESULTS["two_processes"].items():
        assert row["ratio"] == pytest.approx(1, abs=0.06)
        assert f"| {row['parameters']:,} |" in PAGE, kind
        assert f"| {row['ratio']:.3f} |" in PAGE, kind


def test_the_page_holds_the_shares_of_the_plan() -> None:
    for name, plan in RESULTS["plans"].items():
        cells = []
        for devices in ("8", "64", "1024"):
            row = plan["devices"][devices]
            apart = row["share_computing"]
            cells.append(f"{apart:.2f} / {row['share_computing_overlapped']:.2f}")
        assert " | ".join(cells) in PAGE, name
        assert f"{plan['operations']:.1e}".replace("e+", "e") in PAGE, name
