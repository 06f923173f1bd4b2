"""``univae bench``: benchmarks run alone, peers that are missing are skipped, failures are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import bench
from experiments.bench import Config, main
from experiments.benchmarks import runs, table
from experiments.benchmarks.registry import BENCHMARKS, Benchmark, Peer, Ratio
from experiments.cli import commands
from experiments.training.stopping import PartlyFailed
from univae.errors import InputError

FAKE = """
import json, os, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
rounds = sys.argv[sys.argv.index("--rounds") + 1] if "--rounds" in sys.argv else "0"
results = {"ratio": [1.5, 2.5, 3.5], "rounds": int(rounds), "threads": os.environ["OMP_NUM_THREADS"]}
out.write_text(json.dumps({"benchmark": "fast", "results": results}))
print("not the result")
"""
ROWS = {
    "fast": Benchmark("a fake", 1, ratios=[Ratio("speed", "nothing", [("ratio",)])], quick=True),
    "broken": Benchmark("another", 1, ratios=[Ratio("speed", "nothing", [("ratio",)])]),
    "lonely": Benchmark("a third", 1, [Peer("no_such_peer", "no-such-peer>=2")], quick=True),
    "asking": Benchmark("a fourth", 1, needs="--data FILE"),
}


@pytest.fixture(autouse=True)
def _fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fakes"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "fast.py").write_text(FAKE)
    (package / "broken.py").write_text("raise ValueError('it broke')\n")
    monkeypatch.setattr(runs, "PACKAGE", "fakes")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for module in (bench, table):
        monkeypatch.setattr(module, "BENCHMARKS", ROWS)


def test_the_quick_benchmarks_run_and_missing_peers_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    result = main(Config(rounds=4, threads=3, out=out))
    measured = result["benchmarks"]["fast"]
    assert measured["results"] == {"ratio": [1.5, 2.5, 3.5], "rounds": 4, "threads": "3"}
    assert measured["command"] == "python -m fakes.fast --rounds 4"
    assert result["skipped"] == {
        "lonely": "its peer is not installed: pip install 'no-such-peer>=2'"
    }
    assert result["failed"] == {}
    assert result["machine"].keys() == {"cpu", "cores", "platform", "device", "threads"}
    assert result["machine"]["threads"] == 3
    assert result["versions"]["torch"]
    assert result["date"].startswith("20")
    stored = json.loads(out.read_text())
    assert stored == {key: value for key, value in result.items() if key != "out"}
    error = capsys.readouterr().err
    assert "lonely: skipped; its peer is not installed: pip install 'no-such-peer>=2'" in error
    assert "\n  2.5  speed; against nothing\n" in error


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import time\ntime.sleep(100)\n", r"ended after 0\.01 minutes"),
        ("import sys\nopen(sys.argv[-1], 'w').write('{')\n", "its results cannot be read"),
        ("import sys\nopen(sys.argv[-1], 'w').write('{}')\n", "its results cannot be read"),
    ],
)
def test_one_that_hangs_or_writes_no_results_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    (tmp_path / "fakes" / "broken.py").write_text(script)
    monkeypatch.setattr(runs, "SLOWEST", 0.01)
    with pytest.raises(PartlyFailed, match=reason):
        main(Config(names=("broken",)))


def test_a_failed_benchmark_is_told_and_the_others_go_on() -> None:
    with pytest.raises(PartlyFailed, match="1 failed: broken: ValueError: it broke") as raised:
        main(Config(names=("broken", "fast", "asking")))
    result: Any = raised.value.result
    assert result["failed"] == {"broken": "ValueError: it broke"}
    assert list(result["benchmarks"]) == ["fast"]
    assert result["skipped"] == {
        "asking": "it needs arguments: python -m experiments.benchmarks.asking --data FILE"
    }


def test_a_failure_is_exit_code_1_with_the_result_on_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        commands.run(Config, main, ["broken", "fast"], "univae bench")
    assert end.value.code == 1
    out, error = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["failed"] == {"broken": "ValueError: it broke"}
    assert error.splitlines()[-1] == "univae bench: 1 failed: broken: ValueError: it broke"


def test_results_without_the_numbers_of_the_table_are_a_failure(tmp_path: Path) -> None:
    (tmp_path / "fakes" / "fast.py").write_text(FAKE.replace('"ratio"', '"other"'))
    with pytest.raises(PartlyFailed, match="fast: fast: no number at ratio"):
        main(Config(names=("fast",)))


def test_all_are_those_that_compare_and_can_run() -> None:
    assert bench._chosen(Config(all=True)) == ["fast", "broken"]
    assert bench._chosen(Config()) == ["fast", "lonely"]


def test_the_list_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    listed = main(Config(list=True))["benchmarks"]
    assert list(listed) == list(ROWS)
    assert listed["lonely"]["missing"] == "pip install 'no-such-peer>=2'"
    error = capsys.readouterr().err
    assert "fast    a fake (quick, 1 min)" in error
    assert "asking  a fourth (1 min); needs --data FILE" in error


def test_an_unknown_name_and_two_choices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is no benchmark; --list names them"):
        Config(names=("nothing",))
    with pytest.raises(InputError, match="NAME and --all: give one of them"):
        Config(names=("fast",), all=True)
    (tmp_path / "there.json").touch()
    with pytest.raises(InputError, match=r"there\.json: it exists"):
        main(Config(out=tmp_path / "there.json"))


def test_the_quick_benchmarks_take_about_ten_minutes() -> None:
    assert 5 <= sum(row.minutes for row in BENCHMARKS.values() if row.quick) <= 12
