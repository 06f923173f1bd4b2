import time
from pathlib import Path

import pytest

from experiments.training.budget import CLOCKS, Budget
from tests.experiments.training.test_loop import MINUTE, Clock, Toy, train


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
    assert budget.has_room()
    clock[0] = 81.0
    assert not budget.has_room()
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
    budget = Budget(steps=1, minutes=2.0, seconds=60.0, reserve=20.0, prelude=20.0)
    assert budget.fraction(5) == pytest.approx(40 / 80)


def test_validations_that_will_take_most_of_the_time_are_noted_beforehand(
    clock: list[float],
) -> None:
    budget = Budget(steps=1, minutes=3.0)
    assert budget.note_before_validation(40.0) == ""
    note = budget.note_before_validation(60.0)
    assert "takes about 1 minutes" in note
    assert "the 3 minutes of training leave about 1 minutes to train" in note
    assert "leave no time to train; give more --minutes" in budget.note_before_validation(95.0)
    clock[0] = 30.0
    assert budget.note_before_validation(40.0) != ""


def test_a_time_without_a_step_names_no_validation_that_was_not_made() -> None:
    words = Budget(steps=1, minutes=0.5).words_without_step()
    assert words == (
        "the 0.5 minutes of training leave no time to train; give more --minutes with --resume"
    )
    words = Budget(steps=1, minutes=0.5, reserve=40.0).words_without_step()
    assert "leave no time to train: a validation takes 40 s; give more" in words


def test_a_time_that_holds_few_steps_is_noted_once_steps_are_timed(clock: list[float]) -> None:
    budget = Budget(steps=1, minutes=3.0, reserve=60.0)
    clock[0] = 66.0
    budget.pace = 1.5
    assert budget.note_after_step(4).startswith(
        "the 3 minutes of training hold about 40 steps; a validation takes 1 minutes"
    )
    budget.pace = 0.5
    assert budget.note_after_step(4) == ""


def test_a_training_estimates_its_first_validation_before_it_spends_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Probed(Toy):
        def probe(self) -> float:
            timer.pass_by(2.5)
            return 1 / 8

    timer = Clock(monkeypatch, task := Probed(), validation=20.0)
    train(tmp_path / "run", MINUTE, task)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("note: a validation takes about 20 s")
    assert "the 1 minutes of training leave about 18 s to train" in lines[0]
    assert lines[1].startswith("step 0 · ")
    assert lines[2].startswith("note: the 1 minutes of training hold about 35 steps")
