"""The registry names modules that are there, and its rows read the results that are committed."""

import ast
import json
from pathlib import Path

import pytest

from experiments.benchmarks import registry, table
from experiments.benchmarks.registry import BENCHMARKS, Benchmark, Ratio
from experiments.benchmarks.table import (
    RESULTS,
    markdown,
    ratio_rows,
    result_files,
    rows_of,
    value_at,
)
from univae.errors import InputError

FOLDER = Path(registry.__file__).parent
FILES = result_files()
NO_RATIO = {"readability"}  # prints measures of the code


def commands() -> set[str]:
    """Return the modules that can be called as a command."""
    found = set()
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(
            isinstance(node, ast.If) and "__main__" in ast.dump(node.test) for node in tree.body
        ):
            found.add(path.stem)
    return found


def test_every_benchmark_is_a_module_and_every_module_of_results_a_benchmark() -> None:
    assert commands() - NO_RATIO - {"table"} == BENCHMARKS.keys()
    for name, row in BENCHMARKS.items():
        source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        assert f'report("{name}"' in source, name
        assert '"--out"' in source, name
        assert ('"--rounds"' in source) == row.rounds, name
        assert row.minutes > 0
        assert all(len(ratio.over) in (0, len(ratio.keys)) for ratio in row.ratios)


def test_the_peers_are_those_that_setup_cfg_names() -> None:
    setup = (FOLDER.parents[1] / "setup.cfg").read_text(encoding="utf-8")
    for row in BENCHMARKS.values():
        for peer in row.peers:
            assert peer.requirement in setup, peer.requirement


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_committed_results_hold_every_number_of_the_table(path: Path) -> None:
    name = json.loads(path.read_text(encoding="utf-8"))["benchmark"]
    rows = rows_of(path)
    assert bool(rows) == bool(BENCHMARKS[name].ratios)
    for row in rows:
        assert row.script == name
        assert "torch 2" in row.machine
        assert all(float(part) > 0 for part in row.ratio.split(" / "))


def test_every_benchmark_of_the_quick_set_has_committed_results() -> None:
    names = {json.loads(path.read_text(encoding="utf-8"))["benchmark"] for path in FILES}
    assert {name for name, row in BENCHMARKS.items() if row.quick} <= names


def test_a_ratio_is_the_median_of_its_quartiles_or_a_quotient(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [
        Ratio("speed", "a peer", [("a", "ratio"), ("b",)]),
        Ratio("time", "a | plain version", [("b",)], over=[("c", 0, "ms")]),
        Ratio("memory", "nothing", [("gone",)], partial=True),
    ]
    fake = Benchmark("fake", 1, ratios=rows)
    monkeypatch.setattr(table, "BENCHMARKS", {"fake": fake})
    results = {"a": {"ratio": [1.0, 1.126, 2.0]}, "b": 30, "c": [{"ms": 12.0}]}
    found = ratio_rows("fake", results)
    assert found == [("speed", "a peer", "1.13 / 30"), ("time", "a | plain version", "2.5")]

    path = tmp_path / "fake.json"
    machine = {"cpu": "EPYC", "cores": 2, "torch": "2.13", "device": "cpu"}
    content = {"benchmark": "fake", "date": "2026-12-01", "machine": machine, "results": results}
    path.write_text(json.dumps(content))
    lines = markdown(rows_of(path)).splitlines()
    assert lines[0] == "| what | against | ratio | script | machine | date |"
    assert lines[3] == (
        "| time | a \\| plain version | 2.5 | `fake` | EPYC, 2 cores, torch 2.13 | 2026-12-01 |"
    )
    path.write_text(json.dumps({**content, "results": {"b": 1, "c": [{"ms": 1}]}}))
    with pytest.raises(InputError, match=r"fake\.json: no number at a > ratio"):
        rows_of(path)


@pytest.mark.parametrize(
    ("keys", "value"), [(("a", 1), 2.5), (("a", 7), None), (("a", "b"), None), (("a",), None)]
)
def test_a_number_that_is_not_there_is_none(keys: tuple[str | int, ...], value: object) -> None:
    assert value_at({"a": [1, 2.5]}, keys) == value


def test_a_file_that_is_no_benchmark_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.json"
    path.write_text('{"study": "softmax"}')
    with pytest.raises(InputError, match=r"study\.json: no results of a benchmark"):
        rows_of(path)
    assert table.main([str(path)]) == 2
    assert "no results of a benchmark" in capsys.readouterr().err
    assert table.main([str(RESULTS / "two_streams.json")]) == 0
    assert "| `two_streams` |" in capsys.readouterr().out
