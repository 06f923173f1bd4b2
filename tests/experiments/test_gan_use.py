"""GANs in use: draws in files that read back, runs side by side at equal time, and the studies that compare methods."""

import argparse
import json
import math
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_commands import refused

from experiments import sample, train_gan
from experiments.compare import compare, equal_time
from experiments.data.readers import read
from experiments.gans.samples import fixed_latents, strip
from experiments.gans.scaling import gan_rows, standardise, to_data_units, to_grey_levels
from experiments.reports.groups import group_runs
from experiments.reports.validations import best_validation
from experiments.studies import wgan_cost, wgan_images
from experiments.studies.harness import _run as run_here
from experiments.studies.wgan_images import METHODS
from experiments.studies.wgan_ranking import markdown, ranking
from experiments.studies.wgan_variants import VARIANTS
from experiments.training.run_folder import Run
from gan import Recipe
from gan.trained import TrainedGan
from univae.errors import InputError

TINY: dict[str, Any] = {
    "steps": 2, "batch_size": 16, "width": 4, "latent": 8, "hidden": (8,), "feature_steps": 3, "validation_data": 60,
    "threads": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run on digits of two seeds, a conditional one, and one on a table."""
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp("runs")
    kinds: dict[str, dict[str, Any]] = {
        "first": {"data": "digits", "consistency": 5.0},
        "second": {"data": "digits", "consistency": 5.0, "seed": 1},
        "classes": {"data": "digits", "conditional": True, "ema_images": 0.0},
        "table": {"data": "wine"},
    }
    for name, options in kinds.items():
        train_gan.train(
            train_gan.Config.of(out=out / name, **{**TINY, "features": "auto", **options})
        )
    return {name: out / name for name in kinds}


def draw(run: Path, **options: Any) -> dict[str, Any]:
    return sample.main(sample.Config(run=run, device="cpu", **options))


# sample


def test_images_are_drawn_into_files_that_read_back(runs: dict[str, Path], tmp_path: Path) -> None:
    told = draw(runs["first"], count=6, seed=5, out=tmp_path / "drawn.npz")
    assert (told["count"], told["average"], told["step"]) == (6, True, 2)
    data = read(tmp_path / "drawn.npz")
    assert (data.shape, data.levels, len(data), data.labels) == ((1, 8, 8), 256, 6, None)
    with Image.open(told["picture"]) as picture:
        assert picture.size == (16 * 42, 42)
    again = draw(runs["first"], count=6, seed=5, out=tmp_path / "again.npz")
    other = draw(runs["first"], count=6, seed=6)
    raw = draw(runs["first"], count=6, seed=5, raw=True, out=tmp_path / "raw.npz")
    assert not raw["average"]
    images = {
        name: np.load(t["file"])["images"]
        for name, t in (("again", again), ("other", other), ("raw", raw))
    }
    assert np.array_equal(images["again"], data.values)
    assert not np.array_equal(images["other"], data.values)
    assert not np.array_equal(images["raw"], data.values)
    assert other["file"] == str(runs["first"] / "samples" / "drawn_6.npz")


def test_a_conditional_gan_draws_the_class_it_is_asked_for_or_all_in_turn(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    told = draw(runs["classes"], count=12, out=tmp_path / "all.npz")
    assert not told["average"]  # it has none
    assert read(told["file"]).labels.tolist() == [*range(10), 0, 1]
    only = draw(runs["classes"], count=12, label=3, out=tmp_path / "only.npz")
    found = np.load(only["file"])
    assert found["labels"].tolist() == [3] * 12
    # the same latent and class
    assert np.array_equal(found["images"][3], np.load(told["file"])["images"][3])


def test_rows_of_a_table_are_drawn_in_its_units(runs: dict[str, Path], tmp_path: Path) -> None:
    told = draw(runs["table"], count=20, out=tmp_path / "rows.npz")
    assert "picture" not in told
    rows = np.load(told["file"])["x"]
    wine = read("wine")
    assert rows.shape == (20, 13)
    units = standardise(wine)
    np.testing.assert_allclose(
        to_data_units(gan_rows(units, slice(None)), units), wine.values, rtol=1e-4, atol=1e-3
    )
    # Levels are those of the data: 17 of the digits, not 256.
    assert to_data_units(torch.tensor([[[[-1.0, 0.0, 1.0, 2.0]]]]), read("digits")).tolist() == [
        [[[0, 8, 16, 16]]]
    ]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "first",
            ("--temperature", "0.5"),
            "temperature is an option for a text model, and .* is the run of a GAN; got temperature=0.5",
        ),
        (
            "first",
            ("--label", "3"),
            "label must be left out, because this GAN has no classes; got label=3",
        ),
        ("classes", ("--label", "10"), r"label must lie in 0\.\.9; got label=10"),
        ("first", ("--count", "0"), "count must be at least 1"),
        ("first", ("--out", "drawn.csv"), r"--out drawn\.csv: must end in \.npz, \.npy or \.png"),
        ("first", ("--checkpoint", "middle"), "holds no checkpoint 'middle'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    runs: dict[str, Path],
    capsys: Any,
    kind: str,
    options: tuple[str, ...],
    message: str,
    unchecked: None,
) -> None:
    assert re.search(message, said := refused(capsys, "sample", runs[kind], *options)), said


def test_a_run_of_texts_refuses_the_options_of_gans(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"command": "train-text"}))
    with pytest.raises(
        InputError,
        match=r"raw is an option for a GAN, and .* is the run of a text model; got raw=True",
    ):
        sample.main(sample.Config(run=tmp_path, raw=True))


# conditional critics are audited while they train


def test_a_conditional_critic_is_audited_at_the_classes_of_its_data(runs: dict[str, Path]) -> None:
    (row,) = Run.open(runs["classes"]).rows("validation")
    assert row["data"] >= 10  # generated rows
    assert 0 < row["score_gradient_median"] <= row["score_gradient_max"] <= 1 + 1e-5
    trained = Run.open(runs["first"]).rows("train")
    assert all(row["consistency"] >= 0 for row in trained)


# compare


def timed(path: Path, curve: list[tuple[float, float]], **config: Any) -> Path:
    """A run whose validations are at these seconds, with these distances."""
    path.mkdir()
    (path / "config.json").write_text(
        json.dumps({"seed": 0, "clock": "processor", "out": str(path)} | config)
    )
    rows = [
        {"kind": "validation", "step": i, "seconds": t, "selection": d, "frechet_distance": d}
        for i, (t, d) in enumerate(curve)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_groups_are_of_one_configuration_but_for_the_seed(runs: dict[str, Path]) -> None:
    found = group_runs(Run.open(runs[name]) for name in ("first", "classes", "second", "table"))
    members = [[run.path.name for run in group] for group in found.runs_of.values()]
    assert members == [["first", "second"], ["classes"], ["table"]]


def test_at_equal_time_a_run_counts_with_what_it_had_by_then(tmp_path: Path) -> None:
    fast = [
        timed(
            tmp_path / f"fast{s}", [(100, 5.0 + s), (200, 3.0 + s), (400, 1.0 + s)], lr=0.1, seed=s
        )
        for s in (0, 1)
    ]
    slow = [
        timed(tmp_path / f"slow{s}", [(104, 4.0 + s), (205, 2.0 + s)], lr=0.2, seed=s)
        for s in (0, 1)
    ]
    members = [Run.open(path) for path in (*fast, *slow)]
    assert equal_time(members) == pytest.approx(1.05 * 205)
    assert best_validation(members[0], 215.0)["frechet_distance"] == 3
    assert best_validation(members[0])["frechet_distance"] == 1
    page = compare([*fast, *slow], tmp_path / "page.html").read_text()

    def distances(page: str, part: str) -> list[str]:
        """The means of the groups lr 0.1 and lr 0.2 in a part of the page."""
        body = page.split(f'<section id="{part}">')[1].split("</section>")[0]
        assert re.findall(r'<th scope="col"[^>]*>(lr .*?)</th>', body) == ["lr 0.1", "lr 0.2"]
        row = body.split('<th scope="row">Fréchet distance</th>')[1].split("</tr>")[0]
        return [text.replace("\xa0", " ") for text in re.findall(r"<td[^>]*>(.*?)</td>", row)]

    assert distances(page, "metrics") == ["1.500 ± 0.71", "2.500 ± 0.71"]
    assert distances(page, "at-equal-time") == ["3.500 ± 0.71", "2.500 ± 0.71"]
    assert "in the first 3 min 35 s of processor time" in page
    early = compare([*fast, *slow], tmp_path / "early.html", minutes=1.75).read_text()
    assert distances(early, "at-equal-time") == ["5.500 ± 0.71", "4.500 ± 0.71"]
    assert equal_time([*members, Run.open(timed(tmp_path / "none", []))]) is None


def test_a_page_shows_what_gans_make_of_the_same_latents(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    page = compare(list(runs.values()), tmp_path / "page.html").read_text()
    rows = page.split("<h2>Images generated from the same latents")[1]
    assert rows.count("<img") == 3  # none of the table
    assert "Distances are of several feature spaces" in page
    opened = TrainedGan.open(runs["second"], "cpu")
    with Image.open(BytesIO(strip(opened))) as picture:
        # the second image, five times as large, inside its frame
        cell = np.asarray(picture)[1:41, 43:83]
    wanted = to_grey_levels(opened.generate(fixed_latents(8, 16)))[1, 0].round()
    assert np.abs(cell[2::5, 2::5].astype(float) - wanted.numpy()).max() <= 1
    assert strip(TrainedGan.open(runs["table"], "cpu")) is None


# studies


@pytest.mark.slow
def test_the_study_of_costs_times_every_method_over_a_plain_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = {"shape": (1, 8, 8), "width": 4}
    monkeypatch.setattr(wgan_cost, "NETWORKS", {"conv": small})
    monkeypatch.setattr(wgan_cost, "BATCH", 4)
    rows = wgan_cost.measure("conv", tuple(wgan_cost.METHODS), rounds=3)
    assert [row["method"] for row in rows] == list(wgan_cost.METHODS)
    assert "critic_over_plain" not in rows[0]
    for row in rows[1:]:
        for part in ("critic", "generator", "iteration"):
            low, middle, high = row[f"{part}_over_plain"]
            assert 0 < low <= middle <= high
            assert row[f"{part}_milliseconds"] > 0
    assert len(wgan_cost.lines(rows)) == 1 + len(rows)
    second_order = next(row for row in rows if row["method"] == "div")
    assert second_order["critic_over_plain"][1] > 1.3  # two double backward passes
    real = torch.randn(4, 2)
    paired = wgan_cost.generator_score(Recipe(normalization="none", loss="relativistic"), real)
    linear = torch.nn.Linear(2, 1)
    torch.testing.assert_close(paired(linear, real), torch.zeros(4))


@pytest.mark.slow
def test_the_study_of_images_trains_measures_and_names_the_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {name: METHODS[name] | TINY | {"network": "conv"} for name in ("gn", "sn")}
    monkeypatch.setattr(wgan_images, "METHODS", small)
    monkeypatch.setattr(wgan_images, "FEATURE_STEPS", 100)
    monkeypatch.setattr(
        wgan_images, "run_all", lambda jobs, at_once: {job.name: run_here(job) for job in jobs}
    )
    given = argparse.Namespace(
        data="digits",
        out=tmp_path / "out",
        methods=["gn", "sn"],
        minutes=1 / 40,
        seeds=1,
        count=60,
        jobs=1,
        figure=tmp_path / "figures" / "curves.png",
    )
    found = wgan_images.study(given)
    assert given.figure.stat().st_size > 1000
    lines = markdown(found).splitlines()
    assert lines[-1] == found["verdict"]
    assert [line.split("`")[1] for line in lines[2:4]] == [
        row["method"] for row in ranking(found["table"])
    ]
    assert found["failed"] == {}
    assert [(row["method"], row["weights"]) for row in found["table"]] == [
        (method, weights) for method in ("gn", "sn") for weights in ("average", "raw")
    ]
    assert found["feature_space"].startswith("digits-cnn-")
    for row in found["table"]:
        assert {
            "frechet_distance",
            "kernel_distance",
            "precision",
            "recall",
            "coverage",
            "copies",
        } <= row.keys()
        assert row["processor_minutes"]["mean"] < 0.1
        assert row["steps"]["mean"] >= 1
    best = min((row for row in found["table"] if row["weights"] == "average"), key=distance_of)
    assert found["verdict"].startswith(f"{best['method']} has the smallest Fréchet distance")
    assert wgan_images.mnist_bars(found["table"])["best_frechet"]["value"] == distance_of(best)
    assert "mnist_bars" not in found  # of digits nothing was asked
    assert {"blurred", "noise alone", "floor: other real data"} <= found["ladder"].keys()
    assert Path(found["strip"]).stat().st_size > 1000
    stamp = (tmp_path / "out" / "gn-seed0" / "DONE").stat().st_mtime_ns
    assert wgan_images.study(given) == found  # what is done is not done again
    assert (tmp_path / "out" / "gn-seed0" / "DONE").stat().st_mtime_ns == stamp


def test_a_variant_changes_its_preset_in_what_its_name_says() -> None:
    assert VARIANTS["gn-bound-4"] == {**METHODS["gn"], "gradient_bound": 4.0}
    assert VARIANTS["gp-weight-1"] == {**METHODS["gp"], "gp": 1.0}
    for name, options in VARIANTS.items():
        train_gan.Config.of(data="digits", out=Path("out"), **options)
        assert METHODS[name] == options
        assert options not in [METHODS[base] for base in ("gn", "gp")]


def distance_of(row: dict[str, Any]) -> float:
    return float(row["frechet_distance"]["mean"])


def result(distance: float, **more: Any) -> dict[str, Any]:
    found = {"frechet_distance": distance, "recall": 0.95, "coverage": 0.6, "classes_found": 10}
    return {**found, "raw": {**found, "frechet_distance": distance + 1}, **more}


def test_tables_and_verdicts_are_of_the_numbers() -> None:
    given = argparse.Namespace(methods=["gn", "sn", "gp"], seeds=2)
    distances = {"gn-seed0": 1.2, "gn-seed1": 1.4, "sn-seed0": 0.8, "sn-seed1": 0.9}
    scored = {name: result(distance) for name, distance in distances.items()}
    trained = {name: {"steps": 10, "seconds": 60.0} for name in distances}
    scored["gp-seed0"] = {"failed": "NaN"}
    rows = wgan_images.table(given, trained, scored)
    assert rows[-1] == {"method": "gp", "failed": 2}
    gn = rows[0]
    assert (gn["frechet_distance"]["mean"], gn["frechet_distance"]["sd"]) == pytest.approx(
        (1.3, math.sqrt(0.02))
    )
    assert rows[1]["weights"] == "raw"
    assert rows[1]["frechet_distance"]["mean"] == pytest.approx(2.3)
    said = wgan_images.verdict(rows, 0.06)
    assert said.startswith(
        "sn has the smallest Fréchet distance, 0.85 ± 0.071 (floor 0.06), before gn 1.3 ± 0.14. "
    )
    assert (
        "The lead of 0.45 over gn is more than twice the larger deviation over seeds (0.14)."
        in said
    )
    close = [replace_distance(rows[0], 1.0), replace_distance(rows[2], 0.9)]
    assert "is not more than twice" in wgan_images.verdict(close, 0.06)
    assert "all runs of the other methods failed" in wgan_images.verdict(rows[:1], 0.06)
    assert wgan_images.verdict([], 0.0) == "All runs failed."
    bars = wgan_images.mnist_bars(rows)
    assert {name: bar["met"] for name, bar in bars.items()} == {
        "best_frechet": True, "gn_frechet": True, "classes": True, "recall": True, "coverage": False,
    }  # fmt: skip
    assert wgan_images.mnist_bars([]) == {}


def replace_distance(row: dict[str, Any], mean: float) -> dict[str, Any]:
    return {**row, "frechet_distance": {**row["frechet_distance"], "mean": mean}}


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_of_the_study_is_a_configuration(tmp_path: Path, method: str) -> None:
    given = argparse.Namespace(data="digits", out=tmp_path, minutes=1.0)
    config = wgan_images.job(given, method, 3, "auto").config
    settings = config.training
    assert (settings.seed, settings.clock) == (3, "processor")
    assert (settings.threads, settings.minutes) == (1, 1.0)
    described = train_gan.model_config(config.model, read("digits"), 10)
    config.players.recipe().check(train_gan.Players(described).critic)
