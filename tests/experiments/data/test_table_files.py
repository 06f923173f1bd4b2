"""Readers of .csv, .tsv and .parquet: separators, headers, line ends, and what is refused."""

from pathlib import Path

import numpy as np
import pandas
import pytest

from experiments.data.readers import read
from experiments.data.records import describe, without_rows
from univae.errors import InputError

ROWS = "x,y\n1.5,a\n,b\n3,a\n2,b\n"
EXPECTED = np.array([[1.5, 0], [np.nan, 1], [3, 0], [2, 1]])

LAYOUTS = {
    "comma.csv": ROWS,
    "tab.tsv": ROWS.replace(",", "\t"),
    "semicolon.csv": ROWS.replace(",", ";"),
    "decimal_comma.csv": ROWS.replace(",", ";").replace(".", ","),
    "crlf.csv": ROWS.replace("\n", "\r\n"),
    "byte_order_mark.csv": "\ufeff" + ROWS,
    "quotes.csv": ROWS.replace("a", '"a"').replace("x", '"x"'),
    "blank_lines.csv": ROWS.replace("\n", "\n\n"),
    "no_last_line_end.csv": ROWS.rstrip("\n"),
    "row_names.csv": "".join(f"{i},{line}\n" for i, line in enumerate(ROWS.splitlines())).replace(
        "0,", ",", 1
    ),
    "row_names_without_header.csv": ROWS.replace("\n1.5", "\n1,1.5")
    .replace("\n,b", "\n2,,b")
    .replace("\n3", "\n3,3")
    .replace("\n2,b", "\n4,2,b"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_of_a_table_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(LAYOUTS[name].encode("utf-8"))
    data = read(path)
    assert data.columns is not None
    assert data.columns.names == ("x", "y")
    np.testing.assert_array_equal(data.values, EXPECTED)


def test_parquet_gives_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pandas.DataFrame({"x": [1.5, None, 3, 2], "y": list("abab")}).to_parquet(path)
    np.testing.assert_array_equal(read(path).values, EXPECTED)


def test_quoted_separators_and_line_ends_are_part_of_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('x,y\n1,"a,\nb"\n2.5,c\n3,"a,\nb"\n4,c\nbad,c\n')
    with pytest.raises(InputError, match="line 8, column 'x': 'bad'"):
        read(path)


def test_a_table_without_a_header_is_read_from_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1.5,a\n2,b\n3,a\n4,b\n")
    data = read(path)
    assert data.columns is not None
    assert data.columns.names == ("c0", "c1")
    assert len(data) == 4
    assert any("line 1 is no header" in note for note in data.notes)


def test_a_header_above_texts_is_recognised_where_it_does_not_occur_again(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("colour,size\nred,s\nblue,l\nred,l\nblue,s\n")
    assert len(read(path)) == 4
    path.write_text("red,s\nblue,l\nred,l\nblue,s\n")
    assert len(read(path)) == 4


def test_missing_cells_are_counted_in_a_note(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1.5,NA\n?,7\nnull,8.5\n3,9\n4,1\n")
    assert read(path).notes[-1] == f"{path}: missing cells: 3, in 3 of 5 rows"


REFUSED = {
    "ragged": ("x,y\n1,2\n3\n", "line 3: has 1 of the 2 cells of line 1"),
    "empty": ("", "has no rows"),
    "header only": ("x,y\n", "has no rows|must have|no column is left"),
    "latin": ("x,y\n1,caf\u00e9\n", "is not UTF-8"),
    "equal names": ("x,x\n1,2\n3,4\n", "column names must differ; 'x'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_table_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_other_data_are_read_with_the_schema_of_the_training_set(tmp_path: Path) -> None:
    train = tmp_path / "a.csv"
    train.write_text(ROWS)
    columns = read(train).columns
    other = tmp_path / "b.csv"
    other.write_text("extra,y,x\n1,b,7\n2,b,8\n")
    np.testing.assert_array_equal(read(other, schema=columns).values, [[7, 1], [8, 1]])
    other.write_text("y,z\nb,1\na,2\n")
    with pytest.raises(InputError, match=r"lacks the column 'x' of the training set; it has y, z"):
        read(other, schema=columns)
    other.write_text("y,x\nb,1\nc,2\n")
    with pytest.raises(InputError, match="line 3, column 'y': 'c' is not one of the 2 values"):
        read(other, schema=columns)


def test_the_schema_is_in_the_record_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(ROWS)
    data = read(path)
    assert without_rows(describe(data, str(path))).columns == data.columns
