"""The benchmark of optimizers: the memory that each way to accumulate gradients keeps."""

import pytest
import torch

from experiments.benchmarks import optimizers
from experiments.benchmarks.table import ratio_rows
from univae.optim.second_moments import SECOND_MOMENTS


def test_the_moments_of_every_rule_take_less_than_adamw_and_a_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(optimizers, "TENSORS", 2)
    monkeypatch.setattr(optimizers, "SIZE", (3, 2))
    table = optimizers.second_moments(rounds=1)
    kept = {name: row["bytes_per_parameter"] for name, row in table.items()}
    assert {kept[rule] for rule in SECOND_MOMENTS} == {8}
    assert {kept[f"{name}, summed gradients"] for name in optimizers.BUFFERED} == {12}
    assert all(row["milliseconds"] > 0 for row in table.values())
    ((what, _, ratio),) = ratio_rows("optimizers", {"second_moments": table})
    assert "corrected / unbiased / summed / plain" in what
    assert ratio.count(" / ") == 3
