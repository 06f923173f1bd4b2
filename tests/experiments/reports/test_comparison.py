"""Comparisons: groups and their names, means and spreads, the best value, and the files."""

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from experiments import compare
from experiments.reports.comparison import Compared, compared
from experiments.reports.comparison_files import WRITERS
from experiments.reports.comparison_text import metrics_text
from experiments.reports.groups import group_runs
from experiments.reports.options import changed_options
from experiments.reports.validations import best_validation
from tests.experiments.reports.synthetic_runs import (
    HOSTILE,
    gan_run,
    image_run,
    make_run,
    text_run,
    validation_row,
)
from univae.errors import InputError
from univae.run_folder import RunFolder


def names(runs: list[Path]) -> list[str]:
    return list(group_runs(map(RunFolder.open, runs)).runs_of)


def seeded(folder: Path, **options: Any) -> list[Path]:
    """Three runs that differ in the seed, with best NLLs of 50, 51 and 52 plus the rate."""
    lr = options.get("lr", 0.1)
    runs = []
    for seed in (0, 1, 2):
        rows = [validation_row(0, 70.0), validation_row(5, 50 + lr + seed)]
        path = make_run(folder / f"{options} {seed}".replace("/", "-"), rows, seed=seed, **options)
        record_data(path)
        runs.append(path)
    return runs


def record_data(path: Path, fingerprint: str = "abc", tokenizer: str = "bpe") -> None:
    entries = {
        "data": {"source": "a.txt", "fingerprint": fingerprint},
        "tokenizer": {"fingerprint": tokenizer},
    }
    (path / "data.json").write_text(json.dumps(entries))


def best_metrics(*runs: Path) -> set[str]:
    """The metrics of which a mean is marked as the best."""
    groups = group_runs(map(RunFolder.open, runs))
    return {value.metric for value in compared(groups) if value.best}


def test_runs_are_grouped_by_configuration_minus_seed(tmp_path: Path) -> None:
    runs = [*seeded(tmp_path, lr=0.1), *seeded(tmp_path, lr=0.2)]
    groups = group_runs(map(RunFolder.open, runs))
    assert [run.path for run in groups.runs] == runs
    assert {name: len(members) for name, members in groups.runs_of.items()} == {
        "lr 0.1": 3,
        "lr 0.2": 3,
    }
    assert groups.options == {"lr": {"lr 0.1": 0.1, "lr 0.2": 0.2}}
    values = [value for value in compared(groups) if value.metric == "nll_nats"]
    # mean of 50.1, 51.1, 52.1; deviation 1
    assert [value.text for value in values] == ["51.10 ± 1", "51.20 ± 1"]
    assert [(value.count, value.best) for value in values] == [(3, True), (3, False)]
    higher = [value for value in compared(groups) if value.metric == "elbo_nats"]
    assert [value.best for value in higher] == [True, False]  # -54.1 is above -54.2
    neither = [value for value in compared(groups) if value.metric == "active_units"]
    assert [value.best for value in neither] == [False, False]


def test_nothing_is_best_among_runs_of_other_or_unknown_data(tmp_path: Path) -> None:
    rows = [validation_row(0, 70.0, bits_per_token=2.0)]
    a = make_run(tmp_path / "a", rows)
    b = make_run(tmp_path / "b", [validation_row(0, 60.0, bits_per_token=1.0)], lr=0.2)
    assert best_metrics(a, b) == set()
    record_data(a)
    assert best_metrics(a, b) == set()
    record_data(b)
    assert {"nll_nats", "bits_per_token"} <= best_metrics(a, b)
    record_data(b, tokenizer="words")
    assert "nll_nats" in best_metrics(a, b)
    assert "bits_per_token" not in best_metrics(a, b)
    record_data(b, fingerprint="def")
    assert best_metrics(a, b) == set()


def test_a_run_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a run")
    with pytest.raises(InputError, match="a run is given twice; name each run once"):
        compare.compare([run, tmp_path / "a run" / ".." / "a run"], tmp_path / "page.html")


def test_the_metrics_of_a_run_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [
        make_run(tmp_path / name, [validation_row(1, 9.0, seconds=60.0)], lr=lr)
        for name, lr in (("a", 0.1), ("b", 0.2))
    ]
    read: list[Path] = []
    each_row = RunFolder.each_row

    def counted(run: RunFolder, kind: str | None = None) -> Any:
        read.append(run.path)
        return each_row(run, kind)

    monkeypatch.setattr(RunFolder, "each_row", counted)
    compare.compare(runs, tmp_path / "page.html", minutes=5)
    assert sorted(read) == runs


def test_within_a_time_a_calibrated_run_counts_with_its_training(tmp_path: Path) -> None:
    rows = [validation_row(1, 9.0, seconds=10.0), validation_row(2, 8.0, seconds=1000.0)]
    run = make_run(tmp_path / "run", rows)
    (run / "checkpoints" / "uncalibrated").mkdir(parents=True)
    (run / "calibration").mkdir()
    row = validation_row(1, 7.0, seconds=5.0)
    (run / "calibration" / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    folder = RunFolder.open(run)
    assert best_validation(folder)["nll_nats"] == 7.0
    assert best_validation(folder, 20.0)["nll_nats"] == 9.0
    assert best_validation(folder, 2000.0)["nll_nats"] == 8.0


def test_where_no_number_decides_the_last_validation_counts(tmp_path: Path) -> None:
    rows = [validation_row(1, math.nan), validation_row(2, math.inf)]
    assert best_validation(RunFolder.open(make_run(tmp_path / "run", rows)))["step"] == 2


def test_a_run_without_times_and_one_that_is_shorter_are_named(tmp_path: Path) -> None:
    timed = make_run(tmp_path / "timed", [validation_row(1, 9.0, seconds=60.0)])
    untimed = make_run(tmp_path / "untimed", [validation_row(1, 9.0)], lr=0.2)
    page = compare.compare([timed, untimed], tmp_path / "a.html").read_text()
    assert f"No time of training is on record for {untimed}" in page.replace("<wbr>", "")
    other = make_run(tmp_path / "other", [validation_row(1, 9.0, seconds=600.0)], lr=0.2)
    page = compare.compare([timed, other], tmp_path / "b.html", minutes=5).read_text()
    assert f"Trained for less than these minutes: {timed}." in page.replace("<wbr>", "")


def test_groups_are_named_by_what_differs(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", [])
    fast = make_run(tmp_path / "fast", [], lr=0.5, flip=True)
    hostile = make_run(tmp_path / "hostile", [], nested={"deep": HOSTILE})
    assert names([plain]) == ["all runs"]
    assert names([plain, fast]) == ["lr 0.1", "lr 0.5 · flip"]
    assert names([plain, hostile]) == ["nested.deep unset", f"nested.deep {HOSTILE}"]
    other = make_run(tmp_path / "other", [], a=1, b=2, c=3, d=4)
    assert names([plain, other]) == ["plain", "other"]  # too many options for a name
    folder = make_run(tmp_path / "deep" / "plain", [], a=1, b=2, c=3, d=5)
    assert names([other, folder, plain]) == ["other", "plain", "plain (2)"]


def test_a_preset_counts_as_one_option_in_a_name(tmp_path: Path) -> None:
    tiny = text_run(tmp_path / "tiny")
    small = text_run(tmp_path / "small", preset="small")
    slow = text_run(tmp_path / "slow", preset="small", lr=0.0001)
    assert names([tiny, small]) == ["preset tiny", "preset small"]
    assert names([tiny, small, slow]) == [
        "preset tiny · lr 0.003",
        "preset small · lr 0.001",
        "preset small · lr 0.0001",
    ]


def test_options_are_compared_with_the_preset_of_the_command_line(tmp_path: Path) -> None:
    run = RunFolder.open(text_run(tmp_path / "run", lr=0.5))
    changed = changed_options(run, "univae train-text --preset=tiny")
    assert changed is not None
    assert changed.preset == "tiny"
    assert changed.values == {"--lr": (0.5, 0.003)}
    closest = changed_options(run)
    assert closest == changed
    of_small = changed_options(run, "univae train-text --preset tiny --preset small")
    assert of_small is not None
    assert of_small.preset == "small"
    assert of_small.values["--width"] == (128, 256)
    assert changed_options(run, "an 'open quotation") == changed
    assert changed_options(RunFolder.open(make_run(tmp_path / "other", []))) is None


def test_what_cannot_be_compared_has_no_best(tmp_path: Path) -> None:
    images, fast = image_run(tmp_path / "images"), image_run(tmp_path / "fast", lr=0.5)
    other = image_run(tmp_path / "other", lr=0.25)
    data = {"data": {"source": "elsewhere.npy", "fingerprint": "z", "count": 3}}
    (other / "data.json").write_text(json.dumps(data))

    def best(*runs: Path) -> set[str]:
        values = compared(group_runs(map(RunFolder.open, runs)))
        return {value.metric for value in values if value.best}

    assert best(images, fast) >= {"nll_nats", "elbo_nats"}
    assert best(images, other) == set()
    page = compare.compare([images, other], tmp_path / "page.html").read_text()
    assert "The runs differ in their data or kind: no value is marked as the best." in page
    assert 'best"' not in page
    assert best(images) == set()
    gan, another = gan_run(tmp_path / "gan"), gan_run(tmp_path / "another", lr=0.5)
    assert "frechet_distance" in best(gan, another)
    rows = (another / "metrics.jsonl").read_text().replace("digits-cnn", "others-cnn")
    (another / "metrics.jsonl").write_text(rows)
    assert "frechet_distance" not in best(gan, another)
    assert "classes_found" in best(gan, another)


def test_a_metric_of_some_runs_says_of_how_many(tmp_path: Path) -> None:
    runs = seeded(tmp_path, lr=0.1)
    (runs[2] / "metrics.jsonl").write_text("")
    groups = group_runs(map(RunFolder.open, runs))
    assert compared(groups)[0].count == 2
    page = compare.compare(runs, tmp_path / "page.html").read_text()
    assert "50.60 ±\xa00.71 (2 runs)" in page


def test_many_groups_are_rows(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(i), lr=float(i)) for i in range(7)]
    page = compare.compare(runs, tmp_path / "page.html").read_text()
    metrics = page[page.index('<section id="metrics">') : page.index('id="options-that-differ"')]
    heads = re.findall(r'<th scope="row">(.*?)</th>', metrics)
    assert heads == [f"lr {float(i):.4g}" for i in range(7)]
    assert "sortable" in metrics


VALUES = [
    Compared("nll_nats", "nats", "lr 0.1 · a_b", 51.25, 1.0, 3, best=True),
    Compared("nll_nats", "nats", "50% & more", 12345.5, None, 1, best=False),
    Compared("active_units", "", "50% & more", 7.0, None, 1, best=False),
]


def test_the_csv_and_the_json_hold_the_values() -> None:
    rows = list(csv.DictReader(io.StringIO(WRITERS["csv"](VALUES))))
    assert rows[0] == {
        "metric": "nll_nats", "unit": "nats", "group": "lr 0.1 · a_b", "mean": "51.25",
        "spread": "1.0", "count": "3", "best": "true",
    }  # fmt: skip
    assert [row["spread"] for row in rows] == ["1.0", "", ""]
    found = json.loads(WRITERS["json"](VALUES))
    assert [Compared(**row) for row in found] == VALUES


def test_the_latex_table_has_a_line_a_metric() -> None:
    assert WRITERS["latex"](VALUES).splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\hline",
        r"metric (number of runs) & lr 0.1 $\cdot$ a\_b (3) & 50\% \& more (1) \\",
        r"\hline",
        r"negative log-likelihood (nats) & $\mathbf{51.25 \pm 1}$ & $12{,}346$ \\",
        r"active units &  & $7$ \\",
        r"\hline",
        r"\end{tabular}",
    ]


def test_the_terminal_has_a_line_a_metric_and_a_column_a_group() -> None:
    assert metrics_text(VALUES).splitlines() == [
        "                                  lr 0.1 · a_b  50% & more",
        "  negative log-likelihood (nats)    51.25 ± 1*     12,346",
        "  active units                                          7",
        "  * the best mean of a metric",
    ]
    assert metrics_text([]) == ""


def test_many_groups_are_lines_of_the_first_metrics() -> None:
    values = []
    for metric in ("nll_nats", "kl_nats", "active_units"):
        for i in range(5):
            group = f"learning rate {i} · {'x' * 30}"
            values.append(Compared(metric, "", group, 2.5 + i, 0.1, 2, best=i == 0))
    lines = metrics_text(values).splitlines()
    assert lines[0].split("  ")[-1] == "KL of all layers (nats)"
    assert lines[1].split()[-6:] == ["2.500", "±", "0.1*"] * 2
    assert lines[6:] == ["  * the best mean of a metric", "  metrics on the page only: 1"]
    assert max(map(len, lines)) <= 100


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = (*seeded(tmp_path, lr=0.1), *seeded(tmp_path, lr=0.2))
    compare.main(compare.Config(runs=runs, out=tmp_path / "page.html"))
    table = capsys.readouterr().err.splitlines()
    assert table[0].split() == ["lr", "0.1", "lr", "0.2"]
    (row,) = [line for line in table if "log-likelihood" in line]
    assert "51.10 ± 1*" in row


def test_the_command_writes_the_page_and_the_files(tmp_path: Path) -> None:
    runs = tuple(seeded(tmp_path, lr=0.1))
    paths = {option: tmp_path / f"table.{option}" for option in WRITERS}
    config = compare.Config(runs=runs, out=tmp_path / "page.html", **paths)
    result = compare.main(config)
    assert result == {"path": str(config.out), **{name: str(path) for name, path in paths.items()}}
    assert paths["csv"].read_text().startswith("metric,unit,group,mean,spread,count,best\nnll_nats")
    assert json.loads(paths["json"].read_text())[0]["group"] == "all runs"
    with pytest.raises(InputError, match=r"--csv .*table\.csv: it exists; give another name"):
        compare.main(config)
    before = config.out.read_bytes()
    compare.main(compare.Config(runs=runs, out=config.out, overwrite=True, **paths))
    assert config.out.read_bytes() == before


def test_two_options_of_one_file_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    runs = tuple(seeded(tmp_path, lr=0.1))
    same = tmp_path / "table"
    with pytest.raises(InputError, match=r"--json .*: it is the file of --csv; give another name"):
        compare.main(compare.Config(runs=runs, out=tmp_path / "page", csv=same, json=same))
    with pytest.raises(InputError, match=r"--csv .*: it is the file of --out; give another name"):
        compare.main(compare.Config(runs=runs, out=same, csv=same))
    assert not same.exists()
    assert not (tmp_path / "page").exists()
