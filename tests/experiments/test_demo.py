"""An interrupted demo is continued with the options that its runs were started with."""

from pathlib import Path
from typing import Any

import pytest

from experiments import demo
from experiments.cli.options import parse
from univae.checkpoint import write_json
from univae.errors import InputError


def parsed(*argv: str) -> demo.Config:
    return parse(demo.Config, argv, {}, "univae demo")


def started(out: Path, **config: Any) -> None:
    out.mkdir(parents=True)
    common = {"command": "train-text", "minutes": 0.0, "steps": 1750, "samples": 3, "threads": 2}
    write_json(out / "config.json", common | config)


def test_a_resumed_demo_has_the_limits_and_the_seed_of_its_runs_or_the_options_given(
    tmp_path: Path,
) -> None:
    out = tmp_path / "demo"
    started(out, seed=5, time_limit=3.5)
    started(out / "digits", seed=5, time_limit=0.7)
    resumed = parsed("--out", str(out), "--resume")
    assert resumed == demo.Config(out=out, minutes=3.5, image_minutes=0.7, seed=5, resume=True)
    assert parsed("--out", str(out), "--resume", "--minutes", "8").minutes == 8.0
    assert parsed("--out", str(out)) == demo.Config(out=out)


@pytest.mark.parametrize("config", [{"seed": "x", "time_limit": 1.0}, {"time_limit": 1.0}])
def test_a_damaged_run_of_a_demo_is_named(tmp_path: Path, config: dict[str, Any]) -> None:
    started(tmp_path / "demo", **config)
    with pytest.raises(InputError, match=r"demo.*config\.json: .*seed"):
        parsed("--out", str(tmp_path / "demo"), "--resume")
