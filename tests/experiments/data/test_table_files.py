"""Readers of .csv, .tsv and .parquet: separators, headers, line ends, and what is refused."""

from pathlib import Path

import numpy as np
import pandas
import pytest

from density.tables.inference import Choice
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
    "too few": ("x,y\n1,2\n3\n", "line 3: must have 2 cells, .*; has 1; add the missing ones"),
    "too many": (
        "x,y\n1,2\n3,4,5\n",
        "line 3: must have 2 cells, .*; has 3; remove those too many",
    ),
    "short header": ("x,y\n" + "1,2,3,4\n" * 3, "line 1: must have 4 cells, .*; has 2; add"),
    "row names but one": (
        "x,y\n1,2,3\n2,2,3\n3,4\n4,3,4\n",
        "line 4: must have 3 cells, .*; has 2; add",
    ),
    "ragged semicolons": ("x;y\n1;2\n3;4;5\n", "line 3: must have 2 cells, .*; has 3; remove"),
    "open quote": ('x,y\n1,a\n2,"b\n3,c\n4,d\n', "line 3: no CSV .*; close every quote"),
    "quote closed later": ('x,y\n1,a\n2,"b\n3,c\n4,"d"\n', "line 3: no CSV .*; close every"),
    "two marks": ("x;y\n1,5;a\n2,5;b\n3.5;a\n", "line 4, column 'x': '3.5' is no finite number"),
    "thousands": ("x;y\n1,107;7.5\n2,300;8.5\n", "'1,107' may be 1107 or a number with decimals"),
    "thousands by point": ("x;y\n1.107;7,5\n2.300;8,5\n", "line 2, column 'x': '1.107' may be"),
    "millions": ('x,y\n"1,107,000",a\n999,b\n', "line 2, column 'x': '1,107,000' may be 1107000"),
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


def read_text(path: Path, text: str) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """Write a file; return the names and values of its columns, and the notes of the reader."""
    path.write_text(text)
    data = read(path)
    assert data.columns is not None
    return data.columns.names, data.values, data.notes


def test_rows_that_end_with_a_separator_keep_their_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    names, values, notes = read_text(path, ROWS.replace("\n", ",\n").replace("y,", "y"))
    assert names == ("x", "y")
    np.testing.assert_array_equal(values, EXPECTED)
    assert notes[0] == f"{path}: every row ends with a separator; the empty column is left out"


def test_row_names_without_a_header_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "row_names.csv"
    _, _, notes = read_text(path, LAYOUTS["row_names_without_header.csv"])
    assert "the first column is called 'row names'" in notes[0]


DECIMALS = {
    "semicolons": ("a;b\n1,107;1,5\n2,25;2\n", [[1.107, 1.5], [2.25, 2]]),
    "the other columns decide": ("a;b\n1,107;1,5\n2,300;3,5\n", [[1.107, 1.5], [2.3, 3.5]]),
    "the header has a vote": ("a;b\n10,7;1,5\n2,3;3,5\n", [[10.7, 1.5], [2.3, 3.5]]),
    "quotes": ('a,b\n"4059,8",1.5\n"3,25",2.5\n', [[4059.8, 1.5], [3.25, 2.5]]),
    "tabs": ("a\tb\n1,5\t2.5\n-2,5e-3\t3\n", [[1.5, 2.5], [-0.0025, 3]]),
    "three decimals": ("a,b\n1.107,1\n2.300,3\n", [[1.107, 1], [2.3, 3]]),
}


@pytest.mark.parametrize("name", DECIMALS)
def test_the_decimal_mark_is_that_of_the_column(name: str, tmp_path: Path) -> None:
    text, expected = DECIMALS[name]
    path = tmp_path / ("a.tsv" if name == "tabs" else "a.csv")
    names, values, _ = read_text(path, text)
    assert names == ("a", "b")
    np.testing.assert_allclose(values, expected)


def test_an_unclear_number_in_a_column_that_is_not_read_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\n3,007\t1.5\n4,010\t2.5\n")
    data = read(path, schema=Choice(drop=("a",)))
    np.testing.assert_array_equal(data.values, [[1.5], [2.5]])
    assert data.table is not None
    assert data.table.written("a") == ["3,007", "4,010"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_large_whole_numbers_are_kept_and_their_rounding_is_noted(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    numbers = [2**53 + 1, None, 2**62 + 1, 7]
    frame = pandas.DataFrame({"id": pandas.array(numbers, "Int64"), "x": [1.5, 2, 3, 4]})
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    data = read(path)
    assert data.table is not None
    assert data.table.values("id") == numbers
    assert data.table.written("id") == ["" if x is None else str(x) for x in numbers]
    assert f"{path}: column 'id': whole numbers beyond 2**53 are rounded to float64" in data.notes
    assert not any("rounded" in note for note in read(path, schema=Choice(drop=("id",))).notes)


def test_texts_read_as_missing_are_noted_for_categories(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    _, values, notes = read_text(path, "x,s\n1.5,NA\nNA,a\n2,None\n3,b\n4,a\n5,b\n6,NA\n")
    assert np.isnan(values[:, 1]).sum() == 3
    assert [note for note in notes if "read as" in note] == [
        f"{path}: column 's': NA, None read as missing (3 cells)"
    ]


def test_cells_are_numbers_where_all_of_a_column_are(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b;c;d;e;f\n1;1,5;x;007;;1,5\n;2;?;008;;z\n3;NA;y;009;;y\n")
    table = read(path, schema=Choice(columns=("a",))).table
    assert table is not None
    assert {name: table.values(name) for name in table.names} == {
        "a": [1, None, 3],
        "b": [1.5, 2.0, None],
        "c": ["x", "?", "y"],
        "d": ["007", "008", "009"],
        "e": [None, None, None],
        "f": ["1,5", "z", "y"],
    }
