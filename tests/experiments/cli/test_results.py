"""The table of a result: labels, units and errors for people, while the JSON stays as it is."""

import json
import math
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from experiments.cli import commands as cli
from experiments.cli.results import ROWS, result_table
from experiments.training.metric_names import headline


@dataclass(frozen=True)
class Config:
    """Nothing."""

    name: str = "a"  # some name


def ended(
    capsys: pytest.CaptureFixture[str], result: dict[str, Any], *argv: str
) -> tuple[str, str]:
    def action(config: Config) -> dict[str, Any]:
        print("note: of the command", file=sys.stderr)
        return result

    with pytest.raises(SystemExit) as end:
        cli.run(Config, action, list(argv), "univae likelihood")
    assert end.value.code == 0
    said = capsys.readouterr()
    return said.out, said.err


def test_numbers_have_labels_units_and_errors() -> None:
    table = result_table(
        {
            "log_likelihood_nats": -103.04,
            "standard_error_nats": 0.25,
            "elbo_nats": -104.0,
            "bits_per_token": 3.21,
            "kl_nats": [1.5, 2.5],
            "khat_unreliable": 0.125,
            "count": 12345,
        }
    )
    assert table.splitlines() == [
        "  number of data                12,345",
        "  log-likelihood, estimate      -103.0 ± 0.25 nats/text",
        "  lower bound (ELBO)            -104.0 nats/text",
        "  KL of all layers              4.000 nats/text",
        "  code length                   3.210 bits/token",
        "  estimates with a large k-hat  12.5 %",
    ]


@pytest.mark.parametrize("value", [None, {"a": 1}, [{"a": 1}], True])
def test_what_has_no_short_form_stays_in_the_json(value: object) -> None:
    assert result_table(dict.fromkeys(ROWS, value)) == ""
    assert result_table({"nobody knows": 1.0}) == ""


def test_sizes_times_and_shares_are_readable() -> None:
    table = result_table(
        {"bytes_in": 999, "bytes_out": 1_234_567, "seconds": 61.4, "exact_share": 1.0}
    )
    values = dict(line.strip().split("  ", 1) for line in table.splitlines())
    assert {label: value.strip() for label, value in values.items()} == {
        "size of the input": "999 bytes",
        "size of the output": "1.235 MB",
        "time": "1 min 1 s",
        "data restored exactly": "100 %",
    }


def test_texts_are_listed_a_line_each_and_long_ones_shortened() -> None:
    table = result_table({"samples": ["a\nb\x1b[2J", "", "c" * 200, *"defghijklm"]})
    lines = [line.strip() for line in table.splitlines()]
    assert lines[:2] == ["samples  a b\ufffd[2J", "(empty)"]
    assert lines[2].endswith("...")
    assert lines[-1] == "and 3 more in the JSON"
    assert "x | 0.5000" in result_table({"results": [["x", 0.5], ["y", 0.25]]})
    assert result_table({"texts_left_out": 0}) == ""
    assert result_table({"samples": 128}) == "  samples  128"


def test_the_table_is_on_stderr_and_the_json_stays(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"count": 2, "nll_nats": 3.5, "nested": {"a": [1]}, "nothing": math.nan}
    out, err = ended(capsys, result)
    assert json.loads(out) == {**result, "nothing": None}
    assert err.startswith("note: of the command\n")
    assert "negative log-likelihood  3.500 nats/datum\n" in err


def test_quiet_leaves_the_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = ended(capsys, {"count": 2}, "--quiet", "--name", "b")
    assert (json.loads(out), err) == ({"count": 2}, "")

    def failing(config: Config) -> dict[str, Any]:
        raise cli.TrainingFailed("the loss is nan")

    with pytest.raises(SystemExit) as end:
        cli.run(Config, failing, ["--quiet"], "univae likelihood")
    assert (end.value.code, capsys.readouterr().err) == (1, "univae likelihood: the loss is nan\n")


def test_a_command_chooses_the_keys_of_its_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module: ModuleType = sys.modules[__name__]
    monkeypatch.setattr(module, "RESULTS", ("count",), raising=False)
    assert "nats" not in ended(capsys, {"count": 2, "nll_nats": 3.5})[1]
    monkeypatch.setattr(module, "RESULTS", (), raising=False)
    assert ended(capsys, {"count": 2, "nll_nats": 3.5})[1] == "note: of the command\n"


def test_other_processes_print_no_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert ended(capsys, {"count": 2}) == ("", "note: of the command\n")


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (
            {"frechet_distance": 4.0, "precision": 0.5, "recall": 0.25},
            "Fréchet distance 4.000, precision 0.5000, recall 0.2500",
        ),
        (
            {"spearman": 0.5998, "recall_at_1": 0.5},
            "Spearman correlation 0.5998, recall at 1 0.5000",
        ),
        ({"nll_nats": 90.0, "elbo_nats": None}, "held-out NLL 90.00 nats/text"),
        ({"nll_nats": None, "selection": 3.0}, "selection 3.000 (lower is better)"),
        ({"nll_nats": None, "selection": None}, ""),
    ],
)
def test_a_validation_is_named_with_its_units(metrics: dict[str, Any], words: str) -> None:
    assert headline(metrics, "text") == words


def test_a_ladder_is_an_aligned_table_with_the_model_first() -> None:
    model = {"frechet_distance": 1.5, "precision": 0.5, "step": 7}
    result = {**model, "raw": {"frechet_distance": 12345.6}, "ladder": {"noise": model, "none": 3}}
    assert result_table(result).splitlines() == [
        "                   Fréchet  precision",
        "  this model         1.500     0.5000",
        "  its raw weights   12,346           ",
        "  noise              1.500     0.5000",
        "  step of the weights  7",
    ]
