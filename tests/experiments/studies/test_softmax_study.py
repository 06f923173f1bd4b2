"""The study of the softmax trains both, and reports the course of their held-out likelihood."""

import json
import sys
from pathlib import Path

import pytest

from experiments.studies import softmax
from univae.checkpoint import write_json

WORDS = " ".join(f"w{i}" for i in range(300))


@pytest.mark.slow
def test_both_are_trained_and_their_course_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = WORDS.split()
    lines = [" ".join(words[i : i + 5]) for i in range(295)] * 3
    for name, some in (("train.txt", lines), ("held_out.txt", lines[:20])):
        (tmp_path / name).write_text("\n".join(some) + "\n")
    argv = ["softmax", "train.txt", "held_out.txt", "--out", "runs", "--steps", "4"]
    argv += ["--results", "results.json"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", argv)
    softmax.main()
    runs = json.loads((tmp_path / "results.json").read_text())["results"]["runs"]
    assert sorted(runs) == ["adaptive-0", "full-0"]
    for run in runs.values():
        assert run["steps"] == 4
        assert [row["step"] for row in run["course"]] == [4]
        assert run["course"][0]["nll_nats"] == pytest.approx(run["nll_nats"])
    capsys.readouterr()


def test_finished_runs_are_summed_up_and_failed_ones_named(tmp_path: Path) -> None:
    (tmp_path / "full-0").mkdir()
    write_json(tmp_path / "full-0" / "config.json", {})
    rows = [
        {"kind": "train", "step": 1, "loss": 3.0},
        {"kind": "validation", "step": 2, "nll_nats": 5.0, "elbo_nats": -6.0},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "full-0" / "metrics.jsonl").write_text(lines)
    done = {"steps": 2, "nll_nats": 5.0, "elbo_nats": -6.0}
    found = softmax.summary({"full-0": done, "adaptive-0": {"failed": "why"}}, tmp_path)
    course = [{"step": 2, "nll_nats": 5.0, "elbo_nats": -6.0}]
    assert found == {
        "runs": {"full-0": {**done, "course": course}},
        "failed": {"adaptive-0": "why"},
    }
