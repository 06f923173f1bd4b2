"""A run can be given more steps or minutes, and never less than it was started with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.training.run_folder import Run
from tests.experiments.training.test_loop import (
    MINUTE,
    SETTINGS,
    Clock,
    Toy,
    assert_equal,
    everything,
    train,
)
from univae.checkpoint import read_json, write_json
from univae.errors import InputError

LONGER = replace(SETTINGS, steps=24, log_every=1, resume=True)


def rates(run: Run) -> list[float]:
    return [row["lr"] for row in run.rows("train")]


def test_training_on_follows_the_schedule_of_the_new_length_from_the_step_reached(
    tmp_path: Path,
) -> None:
    settings = replace(SETTINGS, log_every=1)
    short, _, _ = train(tmp_path / "run", settings)
    longer, _, run = train(tmp_path / "run", LONGER)
    _, _, whole = train(tmp_path / "whole", replace(settings, steps=24))
    assert (short["steps"], longer["steps"]) == (12, 24)
    assert rates(run)[12:] == rates(whole)[12:]
    assert rates(run)[:12] != rates(whole)[:12]
    assert read_json(run.path / "config.json")["steps"] == 24
    assert read_json(run.path / "environment.json")["lengths"] == [
        {"after_step": 0, "steps": 12, "minutes": 0.0, "time_limit": 0.0},
        {"after_step": 12, "steps": 24, "minutes": 0.0, "time_limit": 0.0},
    ]
    assert read_json(run.path / "DONE") == longer


@pytest.mark.slow
def test_the_same_two_lengths_give_the_same_bits(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        train(tmp_path / name, replace(SETTINGS, log_every=1))
        _, _, run = train(tmp_path / name, LONGER)
        runs.append(run)
    assert_equal(everything(runs[0]), everything(runs[1]))
    before = everything(runs[0])
    train(tmp_path / "a", LONGER)  # a resume without a change changes nothing
    assert_equal(everything(runs[0]), before)
    assert len(read_json(tmp_path / "a" / "environment.json")["lengths"]) == 2


def test_a_run_killed_as_its_new_length_was_recorded_trains_on(tmp_path: Path) -> None:
    _, _, run = train(tmp_path / "run", replace(SETTINGS, log_every=1))
    state = run.checkpoint("last") / "state.json"
    write_json(state, read_json(state) | {"complete": False})
    assert train(run.path, replace(SETTINGS, log_every=1, resume=True))[0]["steps"] == 12
    assert train(run.path, LONGER)[0]["steps"] == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"steps": 6},
            "--steps 6 is less than .*run was started with, --steps 12, of which it has trained 12 "
            "steps; give more",
        ),
        ({"minutes": 1e-9}, r"--minutes 1e-09 is no more than .* has trained, .* minutes; give"),
        ({"steps": 24, "lr": 0.1}, r"another configuration: lr: 0\.05 -> 0\.1; leave"),
    ],
)
def test_less_training_and_other_options_are_refused_and_change_nothing(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    _, _, run = train(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=message):
        train(run.path, replace(SETTINGS, resume=True, **options))
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_minutes_are_the_total_and_may_replace_steps_and_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(**options: Any) -> dict[str, Any]:
        Clock(monkeypatch, task := Toy(), validation=1.0)
        return train(tmp_path / "run", replace(MINUTE, **options), task)[0]

    first = trained()
    assert first["seconds"] <= 60
    second = trained(minutes=2.0, resume=True)
    assert 119 <= second["seconds"] <= 120
    assert second["steps"] > 1.9 * first["steps"]
    with pytest.raises(InputError, match="--steps 9 has no effect, because --minutes 3 limits"):
        trained(minutes=3.0, steps=9, resume=True)
    with pytest.raises(InputError, match=f"no more than .* has trained, {second['steps']} steps"):
        trained(minutes=0.0, steps=second["steps"], resume=True)
    more = second["steps"] + 5
    assert trained(minutes=0.0, steps=more, resume=True)["steps"] == more
