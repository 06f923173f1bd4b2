"""Options that need whole weights are refused with --shard; damaged parts are refused in one line."""

from pathlib import Path

import pytest
import torch

from experiments.gans.task import require_settings
from experiments.training.settings import Settings
from experiments.training.sharding import PART, SHARDS, shard, with_parts, without_parts
from univae.errors import InputError


@pytest.mark.parametrize(
    ("name", "value"), [("optimizer", "sgd"), ("window", 2), ("adapt_step_size", "gain")]
)
def test_states_that_cannot_be_divided_are_refused(name: str, value: object) -> None:
    Settings(shard=True)
    with pytest.raises(InputError, match=f"shard needs {name}="):
        Settings(**{"shard": True, name: value})


def test_a_gan_is_not_divided() -> None:
    with pytest.raises(InputError, match="shard must be False: a GAN alternates"):
        require_settings(Settings(shard=True))


def test_a_weight_that_is_a_single_number_is_refused() -> None:
    module = torch.nn.Module()
    module.log_kappa = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(InputError, match="--shard: log_kappa is a single number"):
        shard(module, torch.device("cpu"))


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
