"""The explorer's answers on GANs are those of the library."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from explorer_data import picture_of

import univae
from experiments import train_gan
from experiments.cli.commands import parse
from experiments.explorer.gans import Gan, gan_panels, moved_rows, walk
from experiments.explorer.panels import Panel
from experiments.gans.samples import LEVELS
from experiments.gans.scaling import to_data_units, to_grey_levels
from experiments.gans.units import units_of
from experiments.reports.image_grid import png


def by_title(run: Any) -> dict[str, Panel]:
    return {panel.title: panel for panel in gan_panels(run)}


@pytest.mark.parametrize("name", ["gan_images", "gan_table"])
def test_every_panel_answers_the_values_at_the_start(
    name: str, opened: Callable[[str], Any]
) -> None:
    for panel in gan_panels(opened(name)):
        answer = panel.answer(*(field.value for field in panel.fields))
        assert ("<img" if name == "gan_images" else "<table>") in answer, panel.title
        assert "warning" not in answer


def test_samples_and_walks_are_those_of_the_library(opened: Callable[[str], Any]) -> None:
    run = opened("gan_table")
    gan = Gan(run)
    np.testing.assert_allclose(
        run.from_networks(walk(gan, 3, 4, 5)), run.interpolate(3, 4, 5), rtol=1e-6
    )
    np.testing.assert_allclose(
        run.from_networks(moved_rows(gan, 9, [0.0] * 6)[0])[None], run.sample(1, seed=9), rtol=1e-6
    )
    drawn = torch.from_numpy(run.sample(2, seed=1, truncation=0.5))  # of version 0.1.0: no units
    first = to_data_units(drawn, units_of(run))[0]
    answer = by_title(run)["Samples"].answer(2, 0.5, 1)
    assert f"<td>draw 1</td><td>{first[0]:.4g}</td><td>{first[1]:.4g}</td>" in answer


def test_a_slider_moves_the_latent_by_its_direction(opened: Callable[[str], Any]) -> None:
    run = opened("gan_images")
    gan = Gan(run)
    offsets = [0.0, -2.0, 0.0, 0.0, 0.0, 1.0]
    z = run.latent(5)
    step = -2 * gan.directions[1] + gan.directions[5]
    expected = run.generate(torch.stack((z, z + step)))
    torch.testing.assert_close(moved_rows(gan, 5, offsets), expected)
    shown = picture_of(by_title(run)["Directions"].answer(5, *offsets))
    assert shown == png(to_grey_levels(expected), LEVELS, 2, 160)


def test_the_first_direction_changes_images_more_than_the_last(
    opened: Callable[[str], Any],
) -> None:
    gan = Gan(opened("gan_images"))
    changes = []
    for number in (0, 5):
        offsets = [0.0] * 6
        offsets[number] = 0.1
        pairs = [moved_rows(gan, seed, offsets) for seed in range(30)]
        changes.append(sum(float((moved - seed).square().sum()) for seed, moved in pairs))
    assert changes[0] > 2 * changes[1]


def test_a_class_is_chosen_by_its_name(tmp_path: Any) -> None:
    options = "--conditional --steps 2 --batch-size 16 --width 4 --latent 8 --hidden 12 --seed 0"
    options += " --feature-steps 2 --validation-data 60"
    words = ["--data", "digits", "--out", str(tmp_path / "run"), *options.split()]
    train_gan.main(parse(train_gan.Config, words))
    run = univae.load(tmp_path / "run", device="cpu")
    gan = Gan(run)
    seven = run.units.from_networks(walk(gan, 0, 1, 3, ("7",)))
    np.testing.assert_array_equal(seven, run.interpolate(0, 1, 3, label=7))
    np.testing.assert_array_equal(
        run.units.from_networks(walk(gan, 0, 1, 3, ("0",))), run.interpolate(0, 1, 3)
    )
    panels = by_title(run)
    sevens = png(
        to_grey_levels(run.generate(run.between(0, 1, 3), torch.full((3,), 7))), 256, 3, 64
    )
    assert picture_of(panels["Walk"].answer(0, 1, 3, "7")) == sevens
    assert "Class must be one of 0, 1" in panels["Walk"].answer(0, 1, 3, "ten")
    every = panels["Samples"].fields[-1].value
    assert "<img" in panels["Samples"].answer(12, 3.0, 0, every)
