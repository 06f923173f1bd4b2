"""A data frame in a file: names, types and missing cells come back exactly."""

from pathlib import Path

import numpy as np
import pytest

from density.tables.frames import from_frame
from experiments.data.frame_files import read_frame, write_frame
from experiments.data.readers import read
from univae.errors import InputError

pandas = pytest.importorskip("pandas")


def test_every_cell_of_a_frame_comes_back(tmp_path: Path) -> None:
    frame = pandas.DataFrame(
        {
            "a b": [0.1, np.nan, 1e300, -7],
            2020: ["01234", "none", None, 'a "quoted", cell\n'],
            "truth": [True, False, None, True],
            "kind": pandas.Categorical(["x", None, "y", "x"]),
            "day": pandas.to_datetime(["2020-01-01", None, "2020-01-03", "2020-01-04"]),
        }
    )
    path = tmp_path / "data.frame.json"
    write_frame(frame, path)
    table = read_frame(path)
    expected = from_frame(frame)
    assert table.names == expected.names == ("a b", "2020", "truth", "kind", "day")
    assert table.categorical == ("kind",)
    for cells, original in zip(table.cells, expected.cells, strict=True):
        assert cells.dtype == original.dtype
        np.testing.assert_array_equal(cells, original)
    assert table.cells[2].tolist() == [True, False, None, True]


def test_names_of_numbers_are_no_row_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "data.frame.json"
    write_frame(pandas.DataFrame(np.arange(12.0).reshape(4, 3) / 7), path)
    data = read(path)
    assert data.values.shape == (4, 3)
    assert data.columns is not None
    assert data.columns.names == ("0", "1", "2")


def test_what_is_no_frame_or_no_such_file_is_refused(tmp_path: Path) -> None:
    class Other:
        columns = ("a",)

    path = tmp_path / "data.frame.json"
    with pytest.raises(InputError, match=r"must be one of pandas; got .*Other; convert it"):
        write_frame(Other(), path)
    with pytest.raises(InputError, match="column names must differ; '1' occurs more than once"):
        write_frame(pandas.DataFrame([[1, 2], [3, 4]], columns=[1, "1"]), path)
    assert not path.exists()
    path.write_text('{"format": "another", "version": 1}')
    with pytest.raises(InputError, match="is no data frame of this version"):
        read(path)
