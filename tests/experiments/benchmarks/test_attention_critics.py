"""The ways to a critic's gradient: which are exact, and that all are timed."""

import pytest
import torch

from experiments.benchmarks import attention_critics
from experiments.benchmarks.attention_critic_ways import CENTRAL, FOURTH_ORDER, Nodes
from univae.attention import second_order

ROUNDS = 2


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_critics, "SHAPE", (1, 8, 8))
    monkeypatch.setattr(attention_critics, "WIDTH", 16)
    monkeypatch.setattr(attention_critics, "PROFILED", 1)
    for name in ("LEAST_SCORES", "LEAST_ACTIVATIONS", "LEAST_NORMALISED"):
        monkeypatch.setattr(second_order, name, 0)


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_all_ways_but_differences_are_exact() -> None:
    _, critic = attention_critics.players()
    table, steps = attention_critics.distances(critic, torch.randn(8, 1, 8, 8))
    for name in ("own", "composed", "own from composed", "forward mode"):
        assert table[name]["float64"] < 1e-9
        assert table[name]["float32"] < 1e-4
    for name in ("central difference", "fourth order"):
        assert 1e-9 < table[name]["float64"]["distance"] < 0.1
        assert steps[name] in attention_critics.STEPS


@pytest.mark.parametrize(("nodes", "order"), [(CENTRAL, 2), (FOURTH_ORDER, 4)])
def test_differences_have_their_order(nodes: Nodes, order: int) -> None:
    def errors(step: float) -> tuple[float, float]:
        slope = sum(weight * (node * step + 1) ** 7 for node, weight, _ in nodes) / step
        value = sum(weight * (node * step + 1) ** 7 for node, _, weight in nodes)
        return abs(slope - 7), abs(value - 1)

    for coarse, fine in zip(errors(1e-2), errors(5e-3), strict=True):
        assert coarse / fine == pytest.approx(2**order, rel=1e-2)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_report_has_all_ways_and_the_bar() -> None:
    x = torch.randn(8, 1, 8, 8)
    steps = {"central difference": 0.1, "fourth order": 0.1}
    assert list(attention_critics.critics(x, steps, ROUNDS)) == [
        "bare",
        "bare, composed",
        "own",
        "composed",
        "forward mode",
        "central difference",
        "fourth order",
    ]
    times = attention_critics.training(x, ROUNDS)
    assert times["iteration"]["GN"]["bar"] == 1.9
    assert times["iteration"]["GN"]["median_over_composed_bare"] > 0
    rows = attention_critics.shares(x)
    assert 0 < sum(row["share"] for row in rows["own"]) <= 1
