"""Options that need whole weights are refused with --shard; damaged parts are refused in one line."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from experiments.studies.processes import together
from experiments.training.settings import Settings
from experiments.training.sharding import (
    PART,
    SHARDS,
    divided_state,
    shard,
    whole_state,
    with_parts,
    without_parts,
)
from univae.errors import InputError


@pytest.mark.parametrize(
    ("name", "value"), [("optimizer", "sgd"), ("window", 2), ("adapt_step_size", "gain")]
)
def test_states_that_cannot_be_divided_are_refused(name: str, value: object) -> None:
    Settings(shard=True)
    with pytest.raises(InputError, match=f"shard needs {name}="):
        Settings(**{"shard": True, name: value})


def test_a_weight_that_is_a_single_number_is_refused() -> None:
    module = torch.nn.Module()
    module.log_kappa = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(InputError, match="--shard: log_kappa is a single number"):
        shard(module, torch.device("cpu"))


def step_divided(folder: Path) -> None:
    """Take a step of an AdamW whose state is divided; write its sizes here and in the whole."""
    torch.set_default_dtype(torch.float32)
    module = torch.nn.Linear(8, 8)
    optimizer = divided_state(torch.optim.AdamW(module.parameters(), lr=0.1))
    module(torch.ones(8)).sum().backward()
    optimizer.step()
    here = [state["exp_avg"].numel() for state in optimizer.optim.state.values()]
    whole = [entry["exp_avg"].numel() for entry in whole_state(optimizer).get("state", {}).values()]
    (folder / str(dist.get_rank())).write_text(json.dumps([here, whole]))


def test_each_process_keeps_its_part_of_the_moments(tmp_path: Path) -> None:
    together(2, partial(step_divided, tmp_path))
    assert json.loads((tmp_path / "0").read_text()) == [[64], [64, 8]]
    assert json.loads((tmp_path / "1").read_text()) == [[8], []]


def test_a_state_of_whole_tensors_is_unchanged(tmp_path: Path) -> None:
    state = {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1.0}]}}
    rest, parts = without_parts(state)
    assert not parts
    like = torch.zeros(2)
    restored = with_parts(rest, tmp_path, lambda path: like if path[-1] == "exp_avg" else None)
    assert torch.equal(restored["optimizer"]["state"][0]["exp_avg"], torch.ones(2))


@pytest.mark.parametrize("content", [None, b"", b"\x08" + bytes(15)])
def test_missing_and_damaged_parts_are_refused(content: bytes | None, tmp_path: Path) -> None:
    (tmp_path / SHARDS).mkdir()
    if content is not None:
        (tmp_path / SHARDS / "shard-00001-model-00001-of-00001.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="shards: not readable"):
        with_parts({"weights": {"a": PART}}, tmp_path, lambda _: torch.zeros(2))
