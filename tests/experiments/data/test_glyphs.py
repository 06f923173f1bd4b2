"""Printed digits: the same from one seed, every font its own.

Stacked, a thousand modes that are counted right.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.data import glyphs as glyph_module
from experiments.data.arrays import Data
from experiments.data.glyphs import FONTS, MODES, glyphs
from experiments.data.readers import read
from experiments.gans import features
from experiments.gans.evaluation import compute_reference, table
from experiments.gans.features import (
    Space,
    class_labels,
    open_feature_space,
    train_feature_space,
)
from experiments.gans.ladder import FLOOR, ladder
from gan.metrics import mode_coverage
from univae.errors import InputError

SMALL = 660  # three of each font and digit


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def test_without_the_typefaces_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    glyph_module._glyphs.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"the extra glyphs: pip install 'univae\[glyphs\]'"):
        glyphs(seed=1)


def few() -> tuple[Data, Data]:
    """Glyphs, and stacks of glyphs whose every mode occurs twice, in a shuffled order."""
    images, labels = glyphs(SMALL)
    rng = np.random.default_rng(0)
    modes = rng.permutation(np.repeat(np.arange(MODES), 2))
    digits = np.stack((modes // 100, modes // 10 % 10, modes % 10), 1)
    of_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    chosen = np.array([[rng.choice(of_digit[d]) for d in row] for row in digits])
    one = Data(images, 256, labels, "glyphs", "images")
    return one, replace(
        one, values=images[chosen, 0], labels=modes, name="stacked-glyphs", channels_of="glyphs"
    )


def test_a_seed_decides_every_pixel() -> None:
    first, labels = glyphs(SMALL)
    glyph_module._glyphs.cache_clear()
    again, _ = glyphs(SMALL)
    other, same_labels = glyphs(SMALL, seed=1)
    assert first is not again
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(labels, same_labels)
    assert glyphs(SMALL)[0] is again  # drawn once
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 0
    assert (first.dtype, first.shape, first.min(), first.max()) == (
        np.uint8,
        (SMALL, 1, 28, 28),
        0,
        255,
    )


def test_every_font_draws_ten_digits_of_its_own() -> None:
    drawn = torch.from_numpy(glyph_module._masters()).flatten(0, 1).flatten(1)
    assert drawn.shape == (10 * len(FONTS), 112 * 112)
    assert len(FONTS) == len(set(FONTS)) == 22
    distance = torch.cdist(drawn, drawn).fill_diagonal_(math.inf)
    # the two nearest, eights of Computer Modern, differ in six whole pixels at least
    assert distance.min() > 2.5
    ink = drawn.unflatten(1, (112, 112))
    longer = torch.maximum(*((ink.sum(axis) > 0).sum(1) for axis in (1, 2)))
    # of 80, which become 20 of 28 pixels; a font's box may be wider than its ink
    assert (longer >= 72).all()
    assert (longer <= 80).all()
    assert ink[:, :16].max() == ink[:, -16:].max() == ink[:, :, :16].max() == 0


def test_labels_are_balanced_and_a_change_keeps_the_digit_inside_the_image() -> None:
    images, labels = glyphs(SMALL)
    assert np.bincount(labels).tolist() == [66] * 10
    frame = np.concatenate((images[:, 0, (0, -1)], images[:, 0][:, :, (0, -1)].swapaxes(1, 2)), 1)
    assert (frame.max((1, 2)) > 128).mean() < 0.02
    size = images.mean((1, 2, 3))
    assert 10 < size.min() < size.max() < 110


def test_an_image_without_a_change_is_the_drawn_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        glyph_module, "_affine_maps", lambda count, _: torch.eye(2, 3).expand(count, 2, 3)
    )
    images, labels = glyph_module._glyphs.__wrapped__(22, 0)
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(glyph_module._masters()[:, 0]), 4)
    assert labels.max() == 0
    assert np.abs(images[:, 0] / 255 - small.numpy()).max() < 0.5 / 255 + 1e-4


def test_the_label_of_a_stack_is_that_of_its_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyph_module, "glyphs", lambda seed: glyphs(SMALL, seed))
    stack = glyph_module._stacked.__wrapped__
    images, labels = stack(50, 0)
    singles, digits = glyphs(SMALL)
    known = {image.tobytes(): digit for image, digit in zip(singles[:, 0], digits, strict=True)}
    result = [[known[channel.tobytes()] for channel in image] for image in images]
    assert [100 * a + 10 * b + c for a, b, c in result] == labels.tolist()
    assert np.array_equal(images, stack(50, 0)[0])
    assert stack(50, 1)[1].tolist() != labels.tolist()


def test_the_built_in_sets_have_their_sizes_and_classes() -> None:
    one = read("glyphs")
    three = read("stacked-glyphs")
    assert (one.shape, one.levels, len(one), one.channels_of) == ((1, 28, 28), 256, 22_000, "")
    assert (three.shape, three.levels, len(three), three.channels_of) == (
        (3, 28, 28),
        256,
        30_000,
        "glyphs",
    )
    assert class_labels(three).unique().numel() == MODES
    assert np.bincount(three.labels).min() > 5


def test_modes_are_those_that_occur_and_their_divergence_is_from_equal_shares() -> None:
    every = torch.arange(MODES).repeat(3)
    assert mode_coverage(every, MODES) == (1000, pytest.approx(0, abs=1e-12))
    assert mode_coverage(torch.full((50,), 7), MODES) == (1, pytest.approx(math.log(1000)))
    assert mode_coverage(torch.tensor([0, 1] * 8), 4) == (2, pytest.approx(math.log(2)))
    drawn = torch.randint(MODES, (25_600,))
    result = mode_coverage(drawn, MODES)
    assert result.present == 1000  # 25.6 each: one is missed by chance once in 1e8 times
    chance = 999 / 51_200  # chi-square of 999 degrees of freedom over 2 N, to first order
    assert abs(result.kl_nats - chance) < 6 * math.sqrt(2 * 999) / 51_200
    with pytest.raises(InputError, match=r"predicted must lie in 0\.\.9; got 10"):
        mode_coverage(torch.tensor([10]), 10)


def test_a_classifier_of_single_digits_counts_the_modes_of_stacks() -> None:
    one, three = few()

    def nearest(
        x: Tensor,
    ) -> Tensor:  # a classifier that is right on these: minus the distance to the nearest of each
        known = torch.as_tensor(one.values / 127.5 - 1, dtype=torch.float32).flatten(1)
        distance = torch.cdist(x.flatten(1), known)
        each = [distance[:, torch.as_tensor(one.labels == digit)].amin(1) for digit in range(10)]
        return -torch.stack(each, 1)

    single = Space("nearest", lambda x: x.flatten(1)[:, ::45], nearest)
    space = features._by_channel(single)
    x = torch.from_numpy(three.values[:300] / np.float32(127.5) - 1)
    assert space.name == "nearest-by-channel"
    assert torch.equal(space.classes(x), torch.as_tensor(three.labels[:300]))
    assert torch.equal(
        space.features(x), torch.cat([single.features(x[:, i : i + 1]) for i in range(3)], 1)
    )
    reference = compute_reference(three, np.arange(len(three)), x, space, count=40)
    assert reference.rows_for_modes == 25_600
    whole = torch.from_numpy(three.values / np.float32(127.5) - 1)
    assert reference.modes(whole.split(300)) == {
        "modes_found": 1000,
        "modes_kl_nats": pytest.approx(0, abs=1e-9),
    }
    constant = reference.modes([whole[:1].repeat(64, 1, 1, 1)])
    assert constant == {"modes_found": 1, "modes_kl_nats": pytest.approx(math.log(1000))}
    rungs = ladder(reference)
    assert rungs[FLOOR]["modes_found"] == 1000
    columns, cells = table(rungs, "space")
    assert cells[0][columns.index("modes found")] == "1000"
    assert (
        compute_reference(one, np.arange(SMALL), x[:50, :1], single, count=40).rows_for_modes == 0
    )


def test_the_space_of_stacks_is_made_of_the_classifier_of_glyphs(tmp_path: Path) -> None:
    three = read("stacked-glyphs")
    space = train_feature_space(three, tmp_path / "features", steps=3, threads=1)
    single = train_feature_space(read("glyphs"), tmp_path / "features", threads=1)
    assert (
        space.name
        == f"{single.name}-by-channel"
        == open_feature_space(three, tmp_path, str(tmp_path / "features")).name
    )
    assert space.accuracy == single.accuracy
    x = torch.rand(4, 3, 28, 28)
    digits = torch.stack([single.classes(x[:, i : i + 1]) for i in range(3)], 1)
    assert torch.equal(space.classes(x), digits @ torch.tensor([100, 10, 1]))
    assert space.features(x).shape == (4, 192)
