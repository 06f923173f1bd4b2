"""A watched bar is a bar; an unwatched one says a line now and then."""

import io
import sys

import pytest

from experiments.training.progress_bar import Bar, RowBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar = Bar(visible=True, interval=30.0)
    for second in range(100):
        now[0] = float(second)
        bar.update(second / 100, second, 1.5, 1234.0, 61.0)
    bar.write_line("done")
    bar.close()
    out, err = capsys.readouterr()
    lines = [f" {s}%  step {s}, loss 1.5000, 1,234 tokens/s, 1:01 left" for s in (30, 60, 90)]
    assert (out, err.splitlines()) == ("", [*lines, "done"])


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    bar = Bar(visible=True)
    bar._bar.mininterval = 0.0
    bar.update(0.5, 7, 2.0, 10.0, 5.0)
    bar.write_line("a word")
    bar.update(1.5, 8, 1.0, 10.0, 0.0)
    bar.close()
    text = terminal.getvalue()
    assert " 50%|" in text
    assert "step 7, loss 2.0000, 10 tokens/s, 0:05 left" in text
    assert "a word\n" in text
    assert "100%|" in text


def test_other_processes_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar(visible=False, interval=0.0)
    bar.update(0.5, 1, 1.0, 1.0, 1.0)
    bar.write_line("nothing")
    bar.close()
    assert capsys.readouterr() == ("", "")


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


def test_rows_on_a_terminal_get_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with RowBar(10, "scoring", interval=0.0) as bar:
        bar._bar.mininterval = 0.0
        bar.add(5)
    assert "scoring:  50%" in terminal.getvalue()
    assert "rows" not in terminal.getvalue()
