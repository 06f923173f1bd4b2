import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.training.budget import CLOCKS, Budget, Share, Spent
from experiments.training.length import is_longer
from experiments.training.task import Progress
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
from univae.run_folder import RunFolder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setitem(CLOCKS, "wall", lambda: now[0])
    return now


def test_steps_are_counted_at_their_middle() -> None:
    budget = Budget(steps=4, minutes=0.0)
    assert [budget.fraction(step) for step in range(5)] == [0.125, 0.375, 0.625, 0.875, 1.0]


def test_the_clock_starts_with_the_first_step_and_stops_in_time_for_the_last_validation(
    clock: list[float],
) -> None:
    budget = Budget(steps=1, minutes=2.0)
    clock[0] = budget.reserve = 20.0  # a validation before the first step
    assert budget.fraction(0) == 0
    clock[0] = 60.0
    assert budget.fraction(5) == pytest.approx(40 / 80)
    budget.pace = 1.0
    clock[0] = 99.5
    assert budget.fraction(9) == 1


def test_a_processor_clock_stands_still_while_one_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    worked = [5.0]
    monkeypatch.setitem(CLOCKS, "processor", lambda: worked[0])
    budget = Budget(steps=1, minutes=1.0, clock="processor")
    assert budget.fraction(0) == 0
    time.sleep(0.01)
    assert budget.seconds == 0
    worked[0] = 35.0
    assert budget.fraction(1) == pytest.approx(0.5)


def test_a_resumed_clock_goes_on_where_it_stopped(clock: list[float]) -> None:
    budget = Budget(steps=1, minutes=2.0, spent=Spent(60.0, 20.0, 20.0))
    assert budget.fraction(5) == pytest.approx(40 / 80)


def test_two_validations_take_half_of_the_time_at_most_or_there_is_none_before_the_first_step(
    clock: list[float],
) -> None:
    budget = Budget(steps=1, minutes=3.0, spent=Spent(reserve=45.0))
    assert budget.has_room(0)
    assert budget.note_before_training() == ""
    budget.reserve = 60.0
    assert not budget.has_room(0)
    note = budget.note_before_training()
    assert "takes about 1 minutes, so there is none before the first step" in note
    assert "the 3 minutes of training leave about 2 minutes to train; give more --minutes" in note
    budget.reserve = 200.0  # no step fits in, which is an error
    assert budget.note_before_training() == ""


def test_validations_of_minutes_take_a_tenth_of_the_time_at_every_moment(
    clock: list[float],
) -> None:
    budget = Budget(steps=1, minutes=10.0)
    assert budget.seconds_per_validation == pytest.approx(60 / 7)
    budget.reserve = budget.validating = 5.0
    made = []
    for second in range(1, 595):
        clock[0] = float(second)
        if budget.has_room(second):
            budget.validating += 5.0
            made.append(second)
    assert made == list(range(100, 590, 50))  # and the last one: 60 s of 600


def test_steps_ahead_of_a_time_limit_do_not_depend_on_the_clock(clock: list[float]) -> None:
    budget = Budget(steps=10, time_limit=1.0)
    free = Budget(steps=10)
    for step, second in enumerate((0, 29, 31, 36, 40, 44, 48, 52, 55, 58, 58.5)):
        clock[0] = float(second)
        assert budget.fraction(step) == free.fraction(step)


def test_steps_behind_a_time_limit_follow_a_line_to_the_end_of_the_schedule(
    clock: list[float],
) -> None:
    budget = Budget(steps=1000, time_limit=1.0, spent=Spent(reserve=4.0))
    assert budget.fraction(0) == 0.0005
    clock[0] = 28.0  # half of the 56 s for steps
    assert budget.fraction(1) == 0.0015
    clock[0] = 42.0
    assert budget.fraction(2) == pytest.approx(0.5)
    clock[0] = 55.0
    assert budget.fraction(3) == pytest.approx(27 / 28)
    budget.pace = 2.0
    assert budget.fraction(3) == 1.0


def test_a_time_without_a_step_names_no_validation_that_was_not_made() -> None:
    words = Budget(steps=1, minutes=0.5).words_without_step()
    assert words == (
        "the 0.5 minutes of training leave no time to train; give more --minutes with --resume"
    )
    words = Budget(steps=1, minutes=0.5, spent=Spent(reserve=40.0)).words_without_step()
    assert "leave no time to train: a validation takes 40 s; give more" in words


def test_a_time_that_holds_few_steps_is_noted_once_steps_are_timed(clock: list[float]) -> None:
    budget = Budget(steps=1, minutes=3.0, spent=Spent(reserve=60.0))
    clock[0] = 66.0
    budget.pace = 1.5
    assert budget.note_after_step(4).startswith(
        "the 3 minutes of training hold about 40 steps; a validation takes 1 minutes"
    )
    budget.pace = 0.5
    assert budget.note_after_step(4) == ""


def test_one_validation_of_a_time_limit_may_take_a_tenth_and_all_of_them_half() -> None:
    assert Share.of(1750) == (0.5, 0.1)
    assert Share.of(0) == (0.1, pytest.approx(0.1 / 7))
    assert Share.of(0, compares=True) == (0.5, pytest.approx(0.5 / 3))


class Sized(Toy):
    """A toy whose validation takes some time a row."""

    seconds_per_row = 0.05
    validation_rows = 24
    fewest_rows = 2

    def __init__(self) -> None:
        super().__init__()
        self.validated: list[int] = []
        self.pass_by: Callable[[float], None] = lambda seconds: None

    def validate(self, progress: Progress) -> dict[str, Any]:
        return self.validate_rows(progress, self.validation_rows)

    def validate_rows(self, progress: Progress, rows: int) -> dict[str, Any]:
        self.pass_by(self.seconds_per_row * rows)
        self.validated.append(rows)
        return super().validate(progress)


def sized(monkeypatch: pytest.MonkeyPatch) -> tuple[Sized, Clock]:
    task = Sized()
    timer = Clock(monkeypatch, task, validation=0.0)
    task.pass_by = timer.pass_by
    return task, timer


def test_validations_are_cut_to_a_tenth_of_the_minutes_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task, _ = sized(monkeypatch)
    # 6 s of a minute for 7 validations: 17 rows; two rows, then an eighth, are probed
    settings = replace(MINUTE, validate_every=10)
    result, _, run = train(tmp_path / "run", settings, task)
    assert task.validated[:2] == [2, 3]
    assert set(task.validated[2:]) == {17}
    assert 5.0 <= sum(task.validated) * task.seconds_per_row <= 6.0
    assert 59.0 <= result["seconds"] <= 60.0
    words = "validations take 17 of 24 data, which is what fits into their share of the time"
    assert result["notes"] == [words]
    assert capsys.readouterr().err.count(words) == 1
    assert all(row["notes"] == [words] for row in run.rows("validation"))

    task, _ = sized(monkeypatch)
    result, _, _ = train(tmp_path / "run", replace(settings, minutes=1.2, resume=True), task)
    assert set(task.validated) == {17}  # comparable with those before
    task, _ = sized(monkeypatch)
    result, _, _ = train(tmp_path / "enough", replace(settings, minutes=1.5), task)
    assert set(task.validated[2:]) == {24}
    assert "notes" not in result


def test_a_time_too_short_for_two_small_validations_is_used_for_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Sized, "seconds_per_row", 0.5)
    task, _ = sized(monkeypatch)
    result, _, run = train(tmp_path / "run", replace(MINUTE, minutes=0.05), task)
    # 1 s of 3 s to probe two rows, 1 s to validate them at the end
    assert (result["steps"], result["seconds"]) == (1, 2.5)
    assert [row["step"] for row in run.rows("validation")] == [1]
    err = capsys.readouterr().err
    assert err.startswith("note: a validation takes about 1 s, so there is none before the first")
    task, _ = sized(monkeypatch)
    with pytest.raises(InputError, match="leave no time to train: a validation takes 1 s"):
        train(tmp_path / "short", replace(MINUTE, minutes=0.03), task)


LIMITED = replace(SETTINGS, steps=40, validate_every=10, checkpoint_every=0, log_every=1)


@pytest.mark.slow
def test_a_generous_time_limit_gives_the_weights_of_the_steps_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, free = train(tmp_path / "free", LIMITED)
    weights = (free.checkpoint("last") / "model.safetensors").read_bytes()
    for name, slow in (("quick", 0.0), ("slow", 1.0)):  # 20 s, or 60 s, of 3 minutes
        task, timer = sized(monkeypatch)
        task.hooks = dict.fromkeys(
            range(40), lambda timer=timer, slow=slow: timer.pass_by(slow / 2)
        )
        result, _, run = train(tmp_path / name, replace(LIMITED, time_limit=3.0), task)
        assert result["steps"] == 40
        assert (run.checkpoint("last") / "model.safetensors").read_bytes() == weights


# of the 24 rows: up to 4.8 s
@pytest.mark.parametrize(
    "seconds", [*(pytest.param(each, marks=pytest.mark.slow) for each in (0.0, 0.05)), 0.2]
)
def test_validations_and_the_best_of_a_time_limit_do_not_depend_on_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    _, _, free = train(tmp_path / "free", LIMITED)
    monkeypatch.setattr(Sized, "seconds_per_row", seconds)
    task, timer = sized(monkeypatch)
    task.hooks = dict.fromkeys(range(40), lambda: timer.pass_by(0.5))
    _, _, run = train(tmp_path / "run", replace(LIMITED, time_limit=2.0), task)
    validated = [row for row in run.rows("validation") if row["step"]]
    assert [row["step"] for row in validated] == [10, 20, 30, 40]
    assert [row["error"] for row in validated] == [row["error"] for row in free.rows("validation")]
    assert not any("notes" in row for row in validated)
    best = [run.checkpoint("best") / "model.safetensors" for run in (free, run)]
    assert best[0].read_bytes() == best[1].read_bytes()


def test_a_validation_that_takes_a_tenth_of_the_time_limit_is_cut_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sized, "seconds_per_row", 1.0)
    task, _ = sized(monkeypatch)
    train(tmp_path / "run", replace(LIMITED, steps=4, time_limit=1.5), task)
    assert max(task.validated) == 9  # rows of a second each


def test_a_tight_time_limit_ends_in_time_with_the_schedule_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = sized(monkeypatch)
    result, _, run = train(tmp_path / "run", replace(LIMITED, steps=200, time_limit=1.0), task)
    assert result["steps"] < 120
    assert 57.0 <= result["seconds"] <= 60.0
    assert task.fractions == sorted(task.fractions)
    assert task.fractions[-1] > 0.95
    assert run.rows("train")[-1]["lr"] < 0.06 * SETTINGS.lr  # the floor is 0.05


def test_a_longer_time_limit_alone_leaves_a_run_with_all_its_steps_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(LIMITED, steps=4, time_limit=1.0)
    _, _, run = train(tmp_path / "run", settings)
    config = (run.path / "config.json").read_bytes()
    before = everything(run)
    result, _, run = train(tmp_path / "run", replace(settings, time_limit=2.0, resume=True))
    assert result["steps"] == 4
    assert "lengths" not in read_json(run.path / "environment.json")
    assert (run.path / "config.json").read_bytes() == config
    assert_equal(everything(run), before)

    task, timer = sized(monkeypatch)
    task.hooks = dict.fromkeys(range(40), lambda: timer.pass_by(5.0))
    late = train(tmp_path / "late", replace(LIMITED, time_limit=1.0), task)[0]
    assert late["steps"] < 40
    task, timer = sized(monkeypatch)
    task.hooks = dict.fromkeys(range(40), lambda: timer.pass_by(1.0))
    longer = replace(LIMITED, time_limit=3.0, resume=True)
    assert train(tmp_path / "late", longer, task)[0]["steps"] == 40


def test_only_the_steps_before_a_calibration_count_for_a_longer_time_limit(tmp_path: Path) -> None:
    config = {"steps": 20, "time_limit": 1.0, "calibration": 0.14}
    longer = config | {"time_limit": 2.0}
    state = tmp_path / "checkpoints" / "last" / "state.json"
    state.parent.mkdir(parents=True)
    for step, expected in ((17, True), (18, False)):
        write_json(state, {"step": step, "seconds": 1.0})
        assert is_longer(RunFolder(tmp_path, config), longer) is expected


def test_a_time_limit_that_is_used_up_is_refused_with_the_minutes_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(LIMITED, steps=4, time_limit=1.0)
    task, timer = sized(monkeypatch)
    task.hooks = dict.fromkeys(range(4), lambda: timer.pass_by(5.0))
    _, _, run = train(tmp_path / "run", settings, task)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for limit in (0.0001, 0.3):
        with pytest.raises(
            InputError,
            match=rf"--steps 50 --time-limit {limit:g} leaves .*run has trained 0\.744; give a longer",
        ):
            train(tmp_path / "run", replace(settings, steps=50, time_limit=limit, resume=True))
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_a_time_limit_may_be_lengthened_and_not_shortened(tmp_path: Path) -> None:
    settings = replace(LIMITED, steps=4, time_limit=1.0)
    train(tmp_path / "run", settings)
    with pytest.raises(
        InputError, match=r"--steps 4 --time-limit 0\.5 is less than .* 1, of which"
    ):
        train(tmp_path / "run", replace(settings, time_limit=0.5, resume=True))
    result, _, _ = train(tmp_path / "run", replace(settings, steps=6, resume=True))
    assert result["steps"] == 6
    with pytest.raises(InputError, match="time_limit is one of steps, and minutes replaces them"):
        replace(settings, minutes=1.0)
