"""The explorer's answers on image and table VAEs are those of the library."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from explorer_data import DATA, picture_of

import univae
from experiments import train_density
from experiments.cli.commands import parse
from experiments.explorer.panels import Panel
from experiments.explorer.rows import COLUMNS, LARGE, SMALL, moved_row, redrawn, row_panels, worst
from experiments.images.row_outputs import pairs_picture, picture
from experiments.images.rows import Rows

FILES = {
    "images": "images.npy",
    "table": "table.npy",
    "columns": "houses.csv",
    "neighbours": "images.npy",
}


@pytest.fixture(params=FILES)
def run(request: pytest.FixtureRequest, opened: Callable[[str], Any]) -> Any:
    return opened(request.param)


@pytest.fixture
def rows(run: Any) -> Rows:
    return Rows(run, str(DATA / FILES[run.path.name]))


@pytest.fixture
def panels(run: Any, rows: Rows) -> dict[str, Panel]:
    return {panel.title: panel for panel in row_panels(run, rows)}


def test_every_panel_answers_the_values_at_the_start(panels: dict[str, Panel]) -> None:
    for panel in panels.values():
        answer = panel.answer(*(field.value for field in panel.fields))
        assert ("<table>" in answer or "<img" in answer) == (panel.act is not None), panel.title
        assert "warning" not in answer
    assert panels["Resample"].act is None  # one latent layer


def test_a_row_that_is_not_there_is_named(panels: dict[str, Panel]) -> None:
    assert "From row must be at most 59; got 60" in panels["Path"].answer(60, 1, 3)


def test_the_least_likely_rows_have_the_scores_of_the_library(
    run: Any, rows: Rows, panels: dict[str, Panel]
) -> None:
    scores, order = worst(run, rows, 12, 24, "posterior")
    data = rows.originals(slice(0, 12))
    if run.columns is None:
        expected = run.score(data, 24, "posterior")
        np.testing.assert_array_equal(scores.log_likelihood, expected.log_likelihood)
    assert order[0] == scores.log_likelihood.argmin()
    answer = panels["Least likely"].answer(12, 24, "posterior", 3)
    assert f"<td>{order[0]}</td><td>{scores.log_likelihood[order[0]]:.2f}</td>" in answer
    assert answer.count("a bound only") <= 3


def test_images_are_pictures_of_what_the_library_returns(opened: Callable[[str], Any]) -> None:
    run = opened("images")
    rows = Rows(run, str(DATA / "images.npy"))
    panels = {panel.title: panel for panel in row_panels(run, rows)}
    images = np.load(DATA / "images.npy")[:, None]
    path = run.interpolate(images[3:4], images[5:6], 4)
    assert picture_of(panels["Path"].answer(3, 5, 4)) == picture(run, path, 4, SMALL)
    again = run.reconstruct(images[2:5])
    expected = pairs_picture(run, images[2:5], again, COLUMNS, SMALL)
    assert picture_of(panels["Reconstruct"].answer(2, 3)) == expected
    drawn = run.sample(5, seed=7)
    assert picture_of(panels["Samples"].answer(5, 7)) == picture(run, drawn, 5, SMALL)

    sliders = panels["Latents"].act.args[2]  # type: ignore[union-attr]
    offsets = [1.5] + [0.0] * (len(sliders.fields) - 1)
    original_and_moved = np.concatenate((images[:1], moved_row(run, rows, sliders, 0, offsets)))
    shown = picture_of(panels["Latents"].answer(0, *offsets))
    assert shown == picture(run, original_and_moved, 3, LARGE)
    np.testing.assert_array_equal(
        moved_row(run, rows, sliders, 0, [0.0] * len(offsets))[1], run.reconstruct(images[:1])[0]
    )


def test_rows_of_a_table_are_what_the_library_returns(opened: Callable[[str], Any]) -> None:
    run = opened("table")
    panels = {panel.title: panel for panel in row_panels(run, Rows(run, str(DATA / "table.npy")))}
    drawn = run.sample(2, seed=4)
    answer = panels["Samples"].answer(2, 4)
    cells = "".join(f"<td>{value}</td>" for value in drawn[1])
    assert f"<tr><td>draw 2</td>{cells}</tr>" in answer
    assert "<th>c0</th>" in answer


def test_the_layers_of_a_model_of_several_are_drawn_as_edit_draws_them(tmp_path: Any) -> None:
    options = "--latents 3 2 --hidden 8 --hidden-above 6 --steps 2 --batch-size 20 --seed 0"
    words = ["--data", str(DATA / "images.npy"), "--out", str(tmp_path / "run"), *options.split()]
    train_density.main(parse(train_density.Config, words))
    run = univae.load(tmp_path / "run", device="cpu")
    rows = Rows(run)  # the data of the training
    panels = {panel.title: panel for panel in row_panels(run, rows)}
    images = np.load(DATA / "images.npy")[:, None]
    reconstruction, edits = run.edit(images[9:10], [0], 3, seed=6)
    found = redrawn(run, rows, 9, [0], 3, 6)
    np.testing.assert_array_equal(found, np.concatenate((reconstruction[None], edits)))
    together = np.concatenate((images[9:10], found))
    assert picture_of(panels["Resample"].answer(9, ["0"], 3, 6)) == picture(run, together, 5, SMALL)
    assert {field.group for field in panels["Latents"].fields[1:]} <= {"Layer 0", "Layer 1"}


def test_without_data_samples_are_left_and_the_reason_is_shown(
    opened: Callable[[str], Any],
) -> None:
    run = opened("images")
    samples, missing = row_panels(run, "RUN was trained on x.npy, which is not there; give --data")
    assert "<img" in samples.answer(4, 0)
    assert missing.act is None
    assert "give --data" in missing.about
    assert torch.get_default_dtype() == torch.float32
