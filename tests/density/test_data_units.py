"""Rows go from the units of the data to those of a model and back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from density.data_units import DataUnits, black_or_white
from density.likelihoods.head import Pixels
from univae.errors import InputError
from univae.run_folder import RunFolder

GREY = DataUnits((1, 4, 3), 17)
COLOUR = DataUnits((3, 4, 5), 256)
TABLE = DataUnits((2,), None, centre=np.array([1e9, -3.0]), dtype="float32")


def grey(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, (count, 1, 4, 3)).astype(np.uint8)


def test_grey_levels_come_back_as_they_were() -> None:
    x = grey()
    assert torch.equal(GREY.to_model(x), torch.from_numpy(x).double())
    again = GREY.from_model(GREY.to_model(x))
    assert again.dtype == np.uint8
    assert np.array_equal(again, x)


def test_one_row_and_images_without_channels_are_rows() -> None:
    x = grey()
    whole = GREY.to_model(x)
    for same in (x[:, 0], np.moveaxis(x, 1, 3), x.tolist(), x.astype(np.float64)):
        assert torch.equal(GREY.to_model(same), whole)
    for one in (x[0], x[0, 0], np.moveaxis(x[0], 0, 2)):
        assert torch.equal(GREY.to_model(one), whole[:1])


def test_channels_may_be_last() -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5))
    assert torch.equal(COLOUR.to_model(np.moveaxis(x, 1, 3)), COLOUR.to_model(x))
    assert torch.equal(COLOUR.to_model(np.moveaxis(x[0], 0, 2)), COLOUR.to_model(x[:1]))


def test_columns_lose_their_centre_in_float64_and_get_it_back() -> None:
    x = np.array([[1e9 + 1, 0.0], [1e9 - 2, 1.0]])
    torch.set_default_dtype(torch.float32)
    inside = TABLE.to_model(x)
    assert inside.tolist() == [[1, 3], [-2, 4]]
    back = TABLE.from_model(inside)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, x.astype(np.float32))


def test_the_probability_of_white_is_a_grey_level() -> None:
    units = DataUnits((1, 1, 3), 17, binarisation="static")
    assert units.from_model(torch.tensor([[[[0.0, 0.5, 1.0]]]])).tolist() == [[[[0, 8, 16]]]]


def test_a_pixel_is_white_as_often_as_it_is_bright() -> None:
    count = 40_000
    x = np.full((count, 1), 4)
    white = black_or_white(x, 17, "static", seed=3)
    error = np.sqrt(0.25 * 0.75 / count)
    assert abs(white.mean() - 0.25) < 5 * error  # fails about once in 1.7 million seeds
    assert np.array_equal(white, black_or_white(x, 17, "static", seed=3, chunk=7))
    assert not np.array_equal(white, black_or_white(x, 17, "static", seed=4))
    assert black_or_white(np.array([[7, 8, 9]]), 17, "threshold").tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("units", "data", "message"),
    [
        (GREY, np.zeros((2, 5)), r"must be of shape \(N, 1, 4, 3\), N at least 1; got \(2, 5\)"),
        (GREY, np.zeros((0, 1, 4, 3)), r"N at least 1; got \(0, 1, 4, 3\)"),
        (GREY, np.full((1, 1, 4, 3), 17), r"levels 0\.\.16, whole numbers; got 17\.\.17"),
        (GREY, np.full((1, 1, 4, 3), 0.5), r"levels 0\.\.16, whole numbers"),
        (TABLE, [[np.nan, 1.0]], "must be finite"),
        (TABLE, [["a", "b"]], "must be numbers"),
    ],
)
def test_data_of_other_units_are_refused(
    units: DataUnits, data: np.ndarray, message: str, unchecked: None
) -> None:
    with pytest.raises(InputError, match=message):
        units.to_model(data)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"data": {"levels": 3}}')
    with pytest.raises(
        InputError, match=r"data\.json: values that cannot be read \(KeyError: 'centre'\)"
    ):
        DataUnits.of(RunFolder(tmp_path, {}), Pixels((2,)))
