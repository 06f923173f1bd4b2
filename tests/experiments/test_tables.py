"""Tables with named columns through the commands: training, scores, imputation, samples."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

import univae
from density.estimation.importance import estimate
from density.tables.baselines import BASELINES
from density.trained import TrainedDensity
from experiments import impute, likelihood, reconstruct, sample, train_density, train_gan
from experiments.cli.commands import parse
from experiments.images.run import read_for
from univae.errors import InputError
from univae.run_folder import RunFolder

HEADER = ("kind", "count", "size", "note")


def rows(count: int, seed: int = 0, missing: float = 0.1) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(seed)
    table = []
    for i in range(count):
        kind = int(rng.integers(2))
        cells = ("ab"[kind], str(rng.poisson(3 + 9 * kind)), f"{rng.normal(50 * kind, 5):.2f}")
        kept = ["" if rng.random() < missing else cell for cell in cells]
        table.append((*kept, f"row {i}"))
    return table


def written(path: Path, lines: list[tuple[str, ...]], header: tuple[str, ...] = HEADER) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def config(out: Path, data: Path, *options: object) -> train_density.Config:
    arguments = ["--out", out, "--data", data, "--preset", "tiny", "--steps", 4, "--threads", 1]
    return parse(train_density.Config, [*map(str, (*arguments, *options))], "train-density")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    folder = tmp_path_factory.mktemp("table")
    data = written(folder / "train.csv", rows(60))
    result = train_density.main(config(folder / "run", data))
    return folder / "run", data, result


def test_a_table_trains_with_the_tiny_preset_and_stands_beside_baselines(trained) -> None:
    run, _, result = trained
    assert all(math.isfinite(result["baselines"][name]) for name in BASELINES)
    assert any("column 'note' is left out" in note for note in result["notes"])
    item = json.loads((run / "samples" / "baselines.json").read_text())
    assert [row[0] for row in item["rows"]] == [
        "this VAE",
        *(row.summary for row in BASELINES.values()),
    ]
    assert "Held-out negative log-likelihood beside baselines" in (run / "report.html").read_text()


def test_the_run_folder_holds_the_schema(trained) -> None:
    run, _, _ = trained
    opened = univae.load(run)
    assert isinstance(opened, TrainedDensity)
    assert opened.columns is not None
    assert opened.columns.names == ("kind", "count", "size")
    assert opened.columns.kinds == ("categorical", "count", "numeric")
    assert opened.columns[0].categories == ("a", "b")


def test_scores_are_joined_to_the_rows(trained, tmp_path: Path) -> None:
    run, data, _ = trained
    out = tmp_path / "scores.csv"
    result = likelihood.main(
        likelihood.Config(
            run=run, data=str(data), out=out, samples=8, limit=7, proposal="posterior", device="cpu"
        )
    )
    table = pandas.read_csv(out, keep_default_na=False, dtype=str)
    original = pandas.read_csv(data, keep_default_na=False, dtype=str)
    assert tuple(table.columns[:5]) == (*HEADER, "log_likelihood_nats")
    pandas.testing.assert_frame_equal(table[list(HEADER)], original[:7])
    assert table["log_likelihood_nats"].astype(float).mean() == pytest.approx(
        result["log_likelihood_nats"]
    )


def test_a_column_with_the_name_of_a_score_is_refused(trained, tmp_path: Path) -> None:
    run, _, _ = trained
    data = written(tmp_path / "a.csv", rows(5), ("kind", "count", "size", "khat"))
    out = tmp_path / "scores.csv"
    with pytest.raises(InputError, match="column 'khat' of --data has the name of a score"):
        likelihood.main(
            likelihood.Config(run=run, data=str(data), out=out, samples=8, device="cpu")
        )
    assert not out.exists()


def test_the_likelihood_of_a_table_is_in_its_units(tmp_path: Path) -> None:
    """The same rows in another unit: log p falls by the logarithm of the factor, per number."""
    torch.set_default_dtype(torch.float32)
    complete = rows(40, missing=0.0)
    scaled = [(kind, count, repr(1000 * float(size)), note) for kind, count, size, note in complete]
    scores = []
    for name, table in (("a", complete), ("b", scaled)):
        data = written(tmp_path / f"{name}.csv", table)
        train_density.train(config(tmp_path / name, data))
        run = TrainedDensity.open(tmp_path / name, "cpu")
        torch.manual_seed(0)
        x = read_for(run, str(data)).batch(slice(None))
        scores.append(estimate(run.model, x, 64).log_likelihood.mean().item())
    assert scores[0] - scores[1] == pytest.approx(math.log(1000), abs=1e-4)


def test_impute_fills_the_missing_cells_and_no_other(trained, tmp_path: Path) -> None:
    run, data, _ = trained
    out = tmp_path / "filled.csv"
    result = impute.main(impute.Config(run=run, data=str(data), out=out, samples=20, device="cpu"))
    with data.open() as before, out.open() as after:
        pairs = list(zip(csv.reader(before), csv.reader(after), strict=True))
    changed = 0
    for old, new in pairs:
        assert "" not in new
        for a, b in zip(old, new, strict=True):
            assert a in ("", b)
            changed += a != b
    assert changed == result["filled"] == sum(result["filled_by_column"].values()) > 0
    with pytest.raises(InputError, match="it exists"):
        impute.main(impute.Config(run=run, data=str(data), out=out, device="cpu"))


def read_back(path: Path) -> list[dict[str, object]]:
    """Return the rows of a file of columns."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        frame = pandas.read_parquet(path, dtype_backend="numpy_nullable").astype(object)
        return frame.where(frame.notna(), None).to_dict("records")
    return pandas.read_csv(path, sep="\t").astype(object).to_dict("records")


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".parquet"])
def test_tables_are_written_in_the_format_of_the_suffix(
    suffix: str, trained, tmp_path: Path
) -> None:
    run, data, _ = trained
    filled = tmp_path / f"filled{suffix}"
    scores = tmp_path / f"scores{suffix}"
    options = {"run": run, "data": str(data), "samples": 8, "device": "cpu"}
    impute.main(impute.Config(**options, out=filled))
    likelihood.main(likelihood.Config(**options, out=scores, proposal="posterior"))
    original = pandas.read_csv(data)
    rows_filled = read_back(filled)
    assert len(rows_filled) == len(original)
    for row, (_, cells) in zip(rows_filled, original.iterrows(), strict=True):
        assert list(row) == list(HEADER)
        assert None not in row.values()
        for name, value in row.items():
            assert pandas.isna(cells[name]) or value == cells[name]
    first = read_back(scores)[0]
    assert list(first)[:5] == [*HEADER, "log_likelihood_nats"]
    assert isinstance(first["log_likelihood_nats"], float)


@pytest.mark.parametrize("name", ["out.npz", "out.xlsx", "out"])
def test_another_suffix_of_a_table_is_refused(name: str, trained, tmp_path: Path) -> None:
    run, data, _ = trained
    options = {"run": run, "data": str(data), "out": tmp_path / name, "device": "cpu"}
    message = r"must end in \.csv, \.tsv, \.jsonl or \.parquet"
    with pytest.raises(InputError, match=message):
        impute.main(impute.Config(**options))
    with pytest.raises(InputError, match=message):
        likelihood.main(likelihood.Config(**options))
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("separator", [";", ","])
def test_outputs_of_decimal_commas_are_read_by_the_run(
    separator: str, trained, tmp_path: Path
) -> None:
    run, data, _ = trained
    comma = tmp_path / "comma.csv"
    frame = pandas.read_csv(data)
    frame.to_csv(comma, sep=separator, decimal=",", index=False)
    opened = TrainedDensity.open(run, "cpu")
    values = read_for(opened, str(comma)).values
    np.testing.assert_array_equal(values, read_for(opened, str(data)).values)
    options = {"run": run, "data": str(comma), "samples": 8, "device": "cpu"}
    filled = tmp_path / "filled.csv"
    scores = tmp_path / "scores.csv"
    impute.main(impute.Config(**options, out=filled))
    likelihood.main(likelihood.Config(**options, out=scores, proposal="posterior"))
    again = read_for(opened, str(filled)).values
    assert not np.isnan(again).any()
    np.testing.assert_array_equal(np.where(np.isnan(values), np.nan, again), values)
    np.testing.assert_array_equal(read_for(opened, str(scores)).values, values)
    table = pandas.read_csv(scores, sep=separator, decimal=",")
    assert table["log_likelihood_nats"].dtype == np.float64


def test_large_numbers_of_other_columns_are_copied_as_they_are(trained, tmp_path: Path) -> None:
    run, data, _ = trained
    frame = pandas.read_csv(data)
    large = [2**60 + i if i % 3 else None for i in range(len(frame))]
    frame["note"] = pandas.array(large, "Int64")
    source = tmp_path / "large.parquet"
    frame.to_parquet(source)
    for suffix in (".csv", ".parquet"):
        out = tmp_path / f"filled{suffix}"
        impute.main(impute.Config(run=run, data=str(source), out=out, samples=8, device="cpu"))
        options = {"dtype_backend": "numpy_nullable"}
        reader = pandas.read_csv if suffix == ".csv" else pandas.read_parquet
        copied = reader(out, **options)["note"]
        assert [None if pandas.isna(x) else int(x) for x in copied] == large


def test_a_cell_that_does_not_fit_names_no_option_of_training(trained, tmp_path: Path) -> None:
    run, _, _ = trained
    data = written(tmp_path / "b.csv", [("a", "1", "x", ""), ("b", "1", "2.5", "")])
    with pytest.raises(
        InputError, match=r"'x' is no finite number; correct the cell, or empty it$"
    ):
        likelihood.main(likelihood.Config(run=run, data=str(data), device="cpu"))


def test_reconstructions_have_errors_of_numbers_and_shares_of_wrong_categories(
    trained, tmp_path: Path
) -> None:
    run, data, _ = trained
    out = tmp_path / "r.csv"
    result = reconstruct.main(
        reconstruct.Config(run=run, data=str(data), out=out, limit=0, device="cpu")
    )
    table = pandas.read_csv(out)
    errors = result["mean_absolute_error_of_columns"]
    assert list(errors) == ["count", "size"]
    for name, error in errors.items():
        assert error == pytest.approx((table[name] - table[f"{name}_reconstruction"]).abs().mean())
    observed = table[table["kind"].notna()]
    wrong = (observed["kind"] != observed["kind_reconstruction"]).mean()
    assert result["wrong_share_of_columns"] == {"kind": pytest.approx(wrong)}


def test_drawn_cells_differ_between_seeds(trained, tmp_path: Path) -> None:
    run, data, _ = trained
    for seed in (0, 1):
        out = tmp_path / f"{seed}.csv"
        impute.main(
            impute.Config(
                run=run, data=str(data), out=out, samples=20, draw=True, seed=seed, device="cpu"
            )
        )
    assert (tmp_path / "0.csv").read_text() != (tmp_path / "1.csv").read_text()


def test_a_data_frame_is_imputed_to_a_data_frame(trained) -> None:
    run, data, _ = trained
    opened = TrainedDensity.open(run, "cpu")
    frame = pandas.read_csv(data).iloc[10:30]
    filled = opened.impute(frame, samples=20, seed=0)
    assert isinstance(filled, pandas.DataFrame)
    assert filled.index.equals(frame.index)
    assert not filled.isna().any().any()
    for name in HEADER:
        kept = frame[name].notna()
        assert (filled.loc[kept, name] == frame.loc[kept, name]).all()
    np.testing.assert_array_equal(opened.to_model(frame).isnan()[:, 0], frame["kind"].isna())


def test_samples_have_the_names_and_values_of_the_data(trained, tmp_path: Path) -> None:
    run, _, _ = trained
    sample.main(sample.Config(run=run, count=20, out=tmp_path / "s.csv", device="cpu"))
    table = pandas.read_csv(tmp_path / "s.csv")
    assert tuple(table.columns) == ("kind", "count", "size")
    assert set(table["kind"]) <= {"a", "b"}
    assert (table["count"] >= 0).all()
    assert (table["count"] == table["count"].round()).all()


def test_samples_are_a_data_frame_of_the_names_and_values_of_the_data(trained) -> None:
    run, _, _ = trained
    frame = TrainedDensity.open(run, "cpu").sample(5, seed=0)
    assert list(frame) == ["kind", "count", "size"]
    assert set(frame["kind"]) <= {"a", "b"}
    assert frame["count"].dtype == np.int64


def test_a_data_frame_is_decoded_to_a_data_frame(trained) -> None:
    run, data, _ = trained
    opened = TrainedDensity.open(run, "cpu")
    frame = pandas.read_csv(data).iloc[10:14]
    again = opened.reconstruct(frame)
    assert again.index.equals(frame.index)
    encoded = opened.reconstruct(opened.from_model(opened.to_model(frame)))
    np.testing.assert_allclose(again["size"], encoded[:, 2])
    path = opened.interpolate(frame.iloc[0], frame.iloc[3], steps=3)
    np.testing.assert_allclose(path["size"].iloc[[0, 2]], encoded[[0, 3], 2])


def test_a_row_of_a_data_frame_is_read_by_its_names(trained) -> None:
    run, data, _ = trained
    opened = TrainedDensity.open(run, "cpu")
    frame = pandas.read_csv(data).iloc[10:14]
    shuffled = frame[["size", "note", "kind", "count"]].iloc[1]
    np.testing.assert_array_equal(opened.to_model(shuffled), opened.to_model(frame)[1:2])
    np.testing.assert_array_equal(opened.encode(shuffled), opened.encode(frame.iloc[[1]]))
    pandas.testing.assert_frame_equal(
        opened.reconstruct(shuffled), opened.reconstruct(frame.iloc[[1]])
    )
    scores = opened.score(shuffled, 5, "posterior").to_pandas()
    assert scores.index.tolist() == [frame.index[1]]
    with pytest.raises(InputError, match="there is no column 'kind'"):
        opened.encode(frame["size"])


def test_every_missing_cell_of_a_frame_is_filled_and_no_other(trained) -> None:
    run, _, _ = trained
    opened = TrainedDensity.open(run, "cpu")
    frame = pandas.DataFrame(
        {
            "kind": ["?", "a", "none", None],
            "count": [3, 4, 5, 6],
            "size": [0.123456789012, 1, 2, 3.0],
        }
    )
    filled = opened.impute(frame, samples=5, seed=0)
    assert set(filled["kind"]) <= {"a", "b"}
    pandas.testing.assert_frame_equal(filled[["count", "size"]], frame[["count", "size"]])
    of_category = frame.assign(kind=pandas.Categorical(["a", "a", None, None]))
    filled = opened.impute(of_category, samples=5, seed=0)
    assert isinstance(filled["kind"].dtype, pandas.CategoricalDtype)
    assert not filled["kind"].isna().any()
    assert opened.impute(frame.iloc[0], samples=5, seed=0).loc[0, "kind"] in ("a", "b")


def test_observed_numbers_of_an_array_stay_bit_for_bit(trained) -> None:
    run, _, _ = trained
    opened = TrainedDensity.open(run, "cpu")
    codes = np.array([[0, 3, 0.123456789012], [np.nan, np.nan, 1 / 3]])
    filled = opened.impute(codes, samples=5, seed=0)
    missing = np.isnan(codes)
    assert not np.isnan(filled).any()
    np.testing.assert_array_equal(filled[~missing], codes[~missing])
    with pytest.raises(InputError, match="impute: samples must be at least 1; got samples=0"):
        opened.impute(codes, samples=0)


def test_codes_and_rows_that_do_not_fit_are_refused(trained) -> None:
    run, _, _ = trained
    opened = TrainedDensity.open(run, "cpu")
    with pytest.raises(InputError, match="column 'kind' must hold positions of its categories"):
        opened.encode([[7, 1, 0.5]])
    with pytest.raises(InputError, match="rows of different lengths; make them equally long"):
        opened.encode([[0, 1, 0.5], [1]])
    with pytest.raises(InputError, match="N at least 1"):
        opened.encode([])


def test_rows_are_read_with_the_schema_of_the_run(trained, tmp_path: Path) -> None:
    run, _, _ = trained
    opened = TrainedDensity.open(run, "cpu")
    data = written(tmp_path / "one.csv", [("1.5", "b", "4")], ("size", "kind", "count"))
    np.testing.assert_array_equal(read_for(opened, str(data)).values, [[1, 4, 1.5]])


VALIDATIONS = {
    "unknown category": (
        [("a", "1", "2.5", ""), ("c", "1", "2.5", "")],
        HEADER,
        r"line 3, column 'kind': 'c' is not one of the 2 values of the training set \(a, b\)",
    ),
    "no number": (
        [("a", "1", "x", ""), ("b", "1", "2.5", "")],
        HEADER,
        "line 2, column 'size': 'x'",
    ),
    "missing column": (
        [("a", "1"), ("b", "2")],
        ("kind", "count"),
        "lacks the column 'size' of the training set; it has kind, count",
    ),
}


@pytest.mark.parametrize("name", VALIDATIONS)
def test_a_validation_that_does_not_fit_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    lines, header, message = VALIDATIONS[name]
    data = written(tmp_path / "train.csv", rows(40))
    other = written(tmp_path / "other.csv", lines, header)
    with pytest.raises(InputError, match=message) as error:
        train_density.main(config(tmp_path / "run", data, "--validation", other))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_options_choose_columns_and_kinds(tmp_path: Path) -> None:
    data = written(tmp_path / "train.csv", rows(40))
    options = ("--drop", "kind", "--numeric", "count")
    train_density.train(config(tmp_path / "run", data, *options))
    opened = TrainedDensity.open(tmp_path / "run", "cpu")
    assert opened.columns is not None
    assert opened.columns.names == ("count", "size")
    assert opened.columns.kinds == ("numeric", "numeric")


def test_the_marks_of_missing_cells_are_those_of_the_training_set(tmp_path: Path) -> None:
    lines = [("None" if kind == "a" else kind, *cells) for kind, *cells in rows(40)]
    data = written(tmp_path / "train.csv", lines)
    train_density.train(config(tmp_path / "run", data, "--missing", ""))
    opened = TrainedDensity.open(tmp_path / "run", "cpu")
    assert opened.columns is not None
    assert opened.columns[0].categories == ("None", "b")
    missing = [line[0] == "" for line in lines]
    np.testing.assert_array_equal(np.isnan(read_for(opened, str(data)).values[:, 0]), missing)


def test_a_resumed_run_keeps_its_columns(trained) -> None:
    run, data, _ = trained
    with pytest.raises(InputError, match=r"started with another configuration.*drop"):
        train_density.train(config(run, data, "--resume", "--drop", "kind"))


def test_options_of_tables_need_names(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(30, 2)))
    with pytest.raises(InputError, match="has no column names, which --columns"):
        train_density.train(config(tmp_path / "run", tmp_path / "a.npy", "--drop", "x"))


def test_a_run_without_names_takes_a_table_of_numbers_and_imputes_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(30, 2)))
    train_density.train(config(tmp_path / "run", tmp_path / "a.npy"))
    opened = TrainedDensity.open(tmp_path / "run", "cpu")
    lines = [("0.5", "1.5"), ("2.5", "-1")]
    data = written(tmp_path / "b.csv", lines, ("x", "y"))
    np.testing.assert_array_equal(read_for(opened, str(data)).values, [[0.5, 1.5], [2.5, -1]])
    with pytest.raises(InputError, match="was not trained on a table with named columns"):
        impute.main(
            impute.Config(
                run=tmp_path / "run", data=str(data), out=tmp_path / "o.csv", device="cpu"
            )
        )
    written(data, [("0.5", ""), ("2.5", "-1"), ("3.5", "7")], ("x", "y"))
    with pytest.raises(InputError, match=r"column 'y' has missing cells; .* takes complete rows"):
        read_for(opened, str(data))


def test_a_gan_takes_tables_of_numbers_and_says_what_it_cannot_take(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    data = written(tmp_path / "train.csv", rows(40))
    options = {"out": tmp_path / "run", "steps": 1, "device": "cpu"}
    with pytest.raises(InputError, match="column 'kind' holds texts; a GAN takes numbers"):
        train_gan.train(train_gan.Config.of(data=str(data), **options))
    assert not (tmp_path / "run").exists()
    numbers = [(x, y) for _, x, y, _ in rows(80, missing=0.0)]
    data = written(tmp_path / "numbers.csv", numbers, ("x", "y"))
    train_gan.train(train_gan.Config.of(data=str(data), batch_size=16, **options))
    assert RunFolder.open(tmp_path / "run").data_record()["data"]["columns"][1]["name"] == "y"

    run = univae.load(tmp_path / "run", "cpu")
    assert list(run.sample(3, seed=0)) == ["x", "y"]
    assert run.interpolate(0, 1, 4).shape == (4, 2)
    out = tmp_path / "drawn.csv"
    sample.main(sample.Config(run=run.path, count=3, out=out, device="cpu"))
    assert list(pandas.read_csv(out)) == ["x", "y"]
