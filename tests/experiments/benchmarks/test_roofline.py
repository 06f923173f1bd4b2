"""The shares of a step's time: made-up profiles, a profile of PyTorch, and two short trainings."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from experiments.benchmarks.roofline import profiled, rates, spans_of, table
from experiments.benchmarks.roofline_cases import CASES, Case, Sources, prepare
from experiments.benchmarks.roofline_shares import AVERAGE, DATA, HEAD, KINDS, STEP, Span, shares
from experiments.training.distributed import World

ALONE = World(0, 1, torch.device("cpu"))
ENGINE = "autograd::engine::evaluate_function: "

# Times in microseconds; the numbers of the nodes of the graph are those of the forward pass.
PROFILE = [
    Span(STEP, 0, 100),
    Span(DATA, 0, 10),
    Span("aten::index", 2, 5),
    Span("aten::scaled_dot_product_attention", 11, 15, sequence=3),
    Span("aten::bmm", 12, 14),
    Span("aten::gelu", 15, 17, sequence=4),
    Span(HEAD, 20, 40),
    Span("aten::masked_fill", 21, 23, sequence=5),
    Span("aten::linear", 24, 32, sequence=6),
    Span("aten::addmm", 25, 31),
    Span("aten::cross_entropy_loss", 41, 45, sequence=8),
    Span(f"{ENGINE}AddmmBackward0", 50, 62, sequence=7),
    Span("AddmmBackward0", 51, 61, sequence=7),
    Span("aten::mm", 52, 60),
    Span("aten::add_", 61, 62),
    Span(f"{ENGINE}AddmmBackward0", 63, 76, sequence=2),
    Span("aten::mm", 65, 75),
    Span("Optimizer.step#AdamW.step", 78, 90),
    Span("aten::mm", 80, 85),
    Span(AVERAGE, 91, 93),
    Span("aten::_foreach_norm", 94, 95),
]


def test_a_profile_is_attributed_by_names_ranges_and_the_numbers_of_nodes() -> None:
    expected = {
        "products": 10,
        "attention": 4,  # with the product inside it
        "head": 8 + 8,  # the gradient is that of node 7, which the range has created
        "loss": 2 + 4 + 1,
        "operators": 2,
        "optimizer": 12 + 2 + 1,
        "data": 10,
        "python": 100 - 64,
    }
    result = shares(PROFILE)
    assert result.microseconds == 100
    assert result.kinds == pytest.approx({kind: n / 100 for kind, n in expected.items()})
    assert result.operators["head", "AddmmBackward0"] == pytest.approx(0.08)
    assert result.operators["products", "AddmmBackward0"] == pytest.approx(0.10)


def test_the_order_of_spans_is_arbitrary() -> None:
    shuffled = random.Random(0).sample(PROFILE, len(PROFILE))
    assert shares(shuffled).kinds == pytest.approx(shares(PROFILE).kinds)


def moved(spans: list[Span], start: float, scale: float = 1.0) -> list[Span]:
    """Return a profile that starts later and takes longer."""
    result = []
    for span in spans:
        times = {"start": start + scale * span.start, "end": start + scale * span.end}
        result.append(replace(span, **times))
    return result


def test_shares_are_those_of_the_faster_half_of_the_steps() -> None:
    interrupted = [
        Span(STEP, 1000, 3000),
        Span("aten::gelu", 1000, 2999),
    ]
    outside = Span("aten::gelu", 500, 900)
    steps = [*interrupted, *PROFILE, outside, *moved(PROFILE, 5000, scale=1.5)]
    result = shares(steps)
    assert result.microseconds == pytest.approx(125)
    assert sum(result.kinds.values()) == pytest.approx(1)
    assert result.kinds == pytest.approx(shares(PROFILE).kinds)


def test_kernels_take_the_time_of_their_operators() -> None:
    kernels = [
        Span(STEP, 0, 100),
        Span("aten::linear", 10, 11),
        Span("aten::addmm", 10, 11, device_time=60),
        Span(f"{ENGINE}GeluBackward0", 20, 22, thread=1),
        Span("aten::gelu_backward", 20, 22, thread=1, device_time=10),
    ]
    kinds = shares(kernels, on_device=True).kinds
    assert kinds["products"] == pytest.approx(0.6)
    assert kinds["operators"] == pytest.approx(0.1)
    assert kinds["python"] == pytest.approx(0.3)


def test_the_gradients_of_a_head_are_the_head_and_those_of_the_body_are_not() -> None:
    body = nn.Linear(4, 4)
    head = nn.Linear(4, 7)
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
    with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function(STEP):
        rows = body(torch.randn(5, 4)).relu()
        with record_function(HEAD):
            logits = head(rows)
        nn.functional.cross_entropy(logits, torch.arange(5)).backward()
        optimizer.step()

    operators = shares(spans_of(profiler)).operators
    for kind in ("products", "head"):
        assert {operator for k, operator in operators if k == kind} == {"linear", "AddmmBackward0"}
    assert ("operators", "ReluBackward0") in operators
    assert {"cross_entropy_loss", "NllLossBackward0"} <= {o for k, o in operators if k == "loss"}
    assert ("optimizer", "optimizer") in operators


def test_a_training_has_the_operations_of_its_products_and_shares_of_all_its_steps(
    tmp_path: Path,
) -> None:
    case = Case("train-density", {"preset": "tiny", "data": "digits"}, (50, 128), head="last")
    step = prepare(case, Sources(), tmp_path, ALONE)
    operations, head_operations = step.operations(2)

    head = 128 * 64
    encoder = 64 * 128 + 128 * 128 + 2 * 16 * 128
    decoder = 16 * 128 + 128 * 128 + head
    # two operations an entry; the pixels have no gradient
    assert operations == 50 * 2 * (3 * (encoder + decoder) - 64 * 128)
    assert head_operations == 50 * 2 * 3 * head
    assert step.padded_share() is None

    kinds = profiled(step, ALONE.device, 2).kinds
    assert sum(kinds.values()) == pytest.approx(1)
    assert {kind for kind in KINDS if kinds[kind] > 0} == {*KINDS} - {"attention"}


def test_a_rate_is_that_of_a_step_over_that_of_the_product() -> None:
    case = Case("", {}, product=(2048, 1024))  # as many operations as two large products
    ratios = {"own": {"ratio": [1.0, 2.0, 4.0]}, "large": {"ratio": [1.0, 1.0, 2.0]}}
    quartiles = rates(ratios, 2 * 1024**3, case)
    # half the operations of the product in twice its time
    assert quartiles["own"] == pytest.approx([1 / 8, 1 / 4, 1 / 2])
    assert quartiles["large"] == pytest.approx([1 / 2, 1, 1])


def test_the_table_shows_percentages() -> None:
    row = {
        "milliseconds": 12.34,
        "shares": dict.fromkeys(KINDS, 0.125),
        "rate_over_machine": {"own": [0.1, 0.2, 0.3], "large": [0.4, 0.5, 0.6]},
        "head_share": 0.5,
        "padded_share": None,
    }
    header, cells = (line.split() for line in table({"text": row}).splitlines())
    assert header[:3] == ["case", "ms", "products"]
    assert cells == ["text", "12.3", *["12.5"] * len(KINDS), "0.20", "0.50", "50.0", "-"]


def test_padding_is_what_texts_lack_of_the_longest_of_their_batch(tmp_path: Path) -> None:
    lines = ["a b c d e\n" if i % 3 else "a\n" for i in range(60)]
    (tmp_path / "texts.txt").write_text("".join(lines))
    case = CASES["text tiny, PTB words"]
    sources = Sources(ptb=str(tmp_path / "texts.txt"))
    step = prepare(case, sources, tmp_path, ALONE)
    lengths = step.task.corpus.lengths[step.task.train]  # all in one batch
    assert step.padded_share() == pytest.approx(1 - lengths.sum() / (6 * len(lengths)))
