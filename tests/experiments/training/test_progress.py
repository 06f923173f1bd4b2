"""A watched bar is a bar; an unwatched one says a line now and then; validations have units."""

import io
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.calibration.task import CalibrationTask
from experiments.gans.task import GanTask
from experiments.images.task import DensityTask
from experiments.sentences.label_task import LabelTask
from experiments.sentences.pair_task import PairTask
from experiments.text.task import TextTask
from experiments.training.budget import CLOCKS
from experiments.training.loop import fit_task
from experiments.training.progress_bar import Bar, RowBar
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress
from experiments.training.units import HasUnits, Units, units_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar = Bar(visible=True, units=Units("text", "tokens"), interval=30.0)
    for second in range(100):
        now[0] = float(second)
        bar.update(second / 100, second, 1.5, 1234.0, 61.0)
    bar.write_line("done")
    bar.close()
    out, err = capsys.readouterr()
    lines = [f" {s}%  step {s} · loss 1.5000 · 1,234 tokens/s · 1:01 left" for s in (30, 60, 90)]
    assert (out, err.splitlines()) == ("", [*lines, "done"])


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    bar = Bar(visible=True, units=Units("image", "images"), steps=8)
    bar._bar.mininterval = 0.0
    bar.update(0.5, 7, 2.0, 10.0, 5.0)
    bar.write_line("a word")
    bar.update(1.5, 8, 1.0, 10.0, 0.0)
    bar.close()
    text = terminal.getvalue()
    assert " 50%|" in text
    assert "step 7/8 · loss 2.0000 · 10 images/s · 0:05 left" in text
    assert "a word\n" in text
    assert "100%|" in text


def test_other_processes_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar(visible=False, interval=0.0)
    bar.update(0.5, 1, 1.0, 1.0, 1.0)
    bar.write_line("nothing")
    bar.close()
    assert capsys.readouterr() == ("", "")


class Numbers:
    """Fit a number to another; its validation returns what the test wants."""

    def __init__(self, validation: dict[str, Any]) -> None:
        self.module = nn.Linear(1, 1)
        self.validation = validation

    @property
    def units(self) -> Units:
        return Units("number", "numbers")

    def batches(self, epoch: int) -> list[int]:
        return [0, 1, 2]

    def load(self, item: int) -> Tensor:
        return torch.full((5, 1), float(item))

    def weight(self, batch: Tensor) -> int:
        return len(batch)

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.module(batch).square().sum(), {}

    def validate(self, progress: Progress) -> dict[str, Any]:
        return dict(self.validation)


Validated = Callable[..., list[str]]


@pytest.fixture
def validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Validated:
    """Return the lines of a training whose validations are given."""

    def result(validation: dict[str, Any], **settings: Any) -> list[str]:
        run = Run.create(tmp_path / "run", {"command": "numbers"})
        options = {"steps": 4, "validate_every": 2, "threads": 1, "device": "cpu"}
        fit_task(Numbers(validation), Settings(**(options | settings)), run)
        err = capsys.readouterr().err
        assert "\r" not in err
        return err.splitlines()

    return result


def test_a_validation_is_a_line_with_steps_units_and_speed(validated: Validated) -> None:
    first, second = validated({"selection": 103.04, "nll_nats": 103.04, "elbo_nats": -104.21})
    start, speed, *best = first.rpartition(" numbers/s")[0].rpartition(" · ")
    assert start == "step 2/4 · held-out NLL 103.0 nats/number (bound 104.2)"
    assert float(best[0].replace(",", "")) >= 0
    assert speed == " · "
    assert first.endswith(" numbers/s · the best so far")
    assert second.startswith("step 4/4 · held-out NLL 103.0 nats/number (bound 104.2) · ")
    assert second.endswith(" numbers/s")


def test_a_validation_without_a_number_says_so(validated: Validated) -> None:
    first, note, last = validated({"selection": None, "notes": ["of the validation"]})
    assert first.startswith("step 2/4 · not finite · ")
    assert note == "note: of the validation"  # said once
    assert last.startswith("step 4/4 · not finite · ")


def test_a_time_budget_has_no_number_of_steps(
    validated: Validated, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setitem(CLOCKS, "wall", lambda: next(ticks) / 100)  # seconds
    lines = validated({"selection": 1.0, "spearman": 0.5}, minutes=0.05)
    assert lines[0] == "step 0 · Spearman correlation 0.5000 · the best so far"
    assert len(lines) > 1
    assert "/4" not in "".join(lines)


@pytest.mark.parametrize(
    "kind", [TextTask, DensityTask, GanTask, PairTask, LabelTask, CalibrationTask]
)
def test_every_task_of_a_command_says_what_its_data_are(kind: type) -> None:
    assert isinstance(kind.units, property)


def test_a_task_without_units_has_data() -> None:
    assert units_of(object()) == Units("datum", "data")
    task = Numbers({})
    assert isinstance(task, HasUnits)
    assert units_of(task).counted == "numbers"


def test_rows_off_a_terminal_get_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with RowBar(2000, "compressing", interval=30.0) as bar:
        bar.add(100)
        bar.add(-100)  # a coder starts again
        for second in range(1, 101):
            now[0] = float(second)
            bar.add(20)
    out, err = capsys.readouterr()
    lines = [
        f"compressing  {second}%  {20 * second:,} of 2,000 rows, {left} left"
        for second, left in ((30, "1:10"), (60, "0:40"), (90, "0:10"))
    ]
    assert (out, err.splitlines()) == ("", lines)


def test_rows_of_an_unknown_number_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with RowBar(0, "scoring", interval=30.0) as bar:
        now[0] = 65.0
        bar.add(7)
    assert capsys.readouterr().err == "scoring 7 rows in 1:05\n"


def test_rows_on_a_terminal_get_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with RowBar(10, "scoring", interval=0.0) as bar:
        bar._bar.mininterval = 0.0
        bar.add(5)
    assert "scoring:  50%" in terminal.getvalue()
    assert "rows" not in terminal.getvalue()
