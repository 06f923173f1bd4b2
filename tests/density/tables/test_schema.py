"""The schema of a table: inferred kinds, cells to numbers and back, messages that name a cell."""

import json

import numpy as np
import pandas
import pytest

from density.tables.columns import Column, Columns
from density.tables.frames import from_frame
from density.tables.inference import Choice, infer
from density.tables.kinds import COLUMN_KINDS
from density.tables.raw import RawTable
from univae.data_frames import is_frame, to_frame
from univae.errors import InputError


def texts(*cells: str) -> np.ndarray:
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


def table(**columns: np.ndarray) -> RawTable:
    return RawTable("t.csv", tuple(columns), tuple(columns.values()), np.arange(2, 200))


MIXED = table(
    mass=texts("3750", "3800.5", "", "3450", "NA", "3650"),
    children=texts("0", "7", "1", "2", "12", "31"),
    island=texts("Dream", "Biscoe", "Dream", "?", "Biscoe", " Dream"),
    grade=texts("1", "2", "1", "2", "1", "2"),
)


def test_kinds_are_inferred_from_the_cells() -> None:
    columns, notes = infer(MIXED)
    assert columns.kinds == ("numeric", "count", "categorical", "categorical")
    assert columns[2].categories == ("Biscoe", "Dream")
    assert columns[3].categories == (1, 2)
    assert notes == (
        "t.csv: 4 columns (mass: numeric; children: count; island: categorical, 2 values; "
        "grade: categorical, 2 values)",
    )


def test_cells_become_numbers_and_missing_ones_nan() -> None:
    columns, _ = infer(MIXED)
    nan = np.nan
    np.testing.assert_array_equal(
        columns.encode(MIXED),
        [
            [3750, 0, 1, 0],
            [3800.5, 7, 0, 1],
            [nan, 1, 1, 0],
            [3450, 2, nan, 1],
            [nan, 12, 0, 0],
            [3650, 31, 1, 1],
        ],
    )


def test_decoding_gives_back_the_cells_of_the_user() -> None:
    columns, _ = infer(MIXED)
    decoded = columns.decode(columns.encode(MIXED))
    assert decoded["island"].tolist() == ["Dream", "Biscoe", "Dream", None, "Biscoe", "Dream"]
    assert decoded["grade"].tolist() == [1, 2, 1, 2, 1, 2]
    np.testing.assert_array_equal(decoded["mass"], [3750, 3800.5, np.nan, 3450, np.nan, 3650])


def test_a_schema_survives_json() -> None:
    columns, _ = infer(MIXED)
    assert Columns.from_json(json.loads(json.dumps(columns.to_json()))) == columns
    with pytest.raises(InputError, match="not the schema of a table"):
        Columns.from_json([{"name": "a"}])
    with pytest.raises(InputError, match=r"column 'a': kind must be one of numeric, count"):
        Columns.from_json([{"name": "a", "kind": "date", "categories": []}])


@pytest.mark.parametrize(
    ("option", "name", "kind"),
    [
        ("numeric", "children", "numeric"),
        ("count", "grade", "count"),
        ("categorical", "mass", "categorical"),
    ],
)
def test_an_option_overrides_the_inferred_kind(option: str, name: str, kind: str) -> None:
    columns, _ = infer(MIXED, Choice(**{option: (name,)}))
    assert columns[columns.names.index(name)].kind == kind


def test_columns_are_chosen_in_order_and_dropped() -> None:
    chosen, _ = infer(MIXED, Choice(columns=("grade", "mass")))
    assert chosen.names == ("grade", "mass")
    rest, _ = infer(MIXED, Choice(drop=("grade", "mass")))
    assert rest.names == ("children", "island")


LEFT_OUT = {
    "constant": (texts("4", "4", "4", "4"), "all its cells are '4'"),
    "empty": (texts("", "NA", "-", "null"), "all its cells are missing"),
    "dates": (texts("2024-01-02", "2024-01-03", "2024-01-04", "2025-01-02"), "it holds dates"),
    "names": (texts("Ann", "Ben", "Cy", "Di"), "4 different texts in 4 rows are names, ids"),
    "id": (texts("5", "6", "7", "8"), "it counts the rows"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_column_without_a_distribution_is_left_out_with_a_note(name: str) -> None:
    cells, reason = LEFT_OUT[name]
    columns, notes = infer(table(**{name: cells, "x": texts("1.5", "2.5", "3", "4")}))
    assert columns.names == ("x",)
    assert notes[0].startswith(f"t.csv: column {name!r} is left out: {reason}")


REFUSED = {
    "no number": (
        texts("1.5", "two", "3", "4"),
        Choice(),
        r"t\.csv, line 3, column 'a': 'two' is no finite number",
    ),
    "typo among few whole numbers": (
        texts("1", "2", "1", "2", "nope", "1"),
        Choice(),
        r"line 6, column 'a': 'nope' is no finite number; correct the cell, or empty it, "
        r"or give --categorical a or --drop a",
    ),
    "typo in counts": (
        texts("1", "9", "x", "4"),
        Choice(count=("a",)),
        "--categorical a or --drop a",
    ),
    "infinite": (texts("1.5", "inf", "3", "4"), Choice(), "'inf' is no finite number"),
    "thousands": (texts("1_5", "2", "3", "4"), Choice(), "'1_5' is no finite number"),
    "no count": (texts("1", "2", "-3", "4"), Choice(count=("a",)), "-3 is no whole number from 0"),
    "half a count": (texts("1", "2", ".5", "4"), Choice(count=("a",)), "line 4.*0.5 is no whole"),
    "unknown column": (
        texts("1", "2"),
        Choice(drop=("b",)),
        r"--drop b: t\.csv has no such column",
    ),
    "named twice": (
        texts("1", "2"),
        Choice(count=("a",), numeric=("a",)),
        "column 'a' is named by two of",
    ),
    "constant by name": (texts("1", "1"), Choice(numeric=("a",)), "two different values or more"),
    "nothing left": (texts("x", "y"), Choice(), "no column is left to train on"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_cell_or_option_is_named_in_one_line(name: str) -> None:
    cells, choice, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as error:
        infer(table(a=cells), choice)
    assert "\n" not in str(error.value)


def test_marks_of_missing_cells_replace_the_usual_ones_and_are_in_the_schema() -> None:
    raw = table(
        s=texts("None", "a", "", "a", "None", "x", "x"),
        x=texts("1.5", "-999", "2", "", "3", "4", "5"),
    )
    columns, _ = infer(raw, Choice(missing=("-999",)))
    assert columns[0].categories == ("None", "a", "x")
    expected = np.array([[0, 1, np.nan, 1, 0, 2, 2], [1.5, np.nan, 2, np.nan, 3, 4, 5]]).T
    np.testing.assert_array_equal(columns.encode(raw), expected)
    stored = Columns.from_json(json.loads(json.dumps(columns.to_json())))
    assert stored == columns
    np.testing.assert_array_equal(stored.encode(raw), expected)
    assert infer(raw, Choice(missing=("",)))[0] != columns
    with pytest.raises(InputError, match="'NA' is no finite number"):
        infer(table(x=texts("1.5", "NA", "2")), Choice(missing=("",)))
    frame = from_frame(pandas.DataFrame({"s": ["a", "x"], "x": [1.5, -999]}))
    np.testing.assert_array_equal(columns.encode(frame), [[1, 1.5], [2, np.nan]])


def test_a_typo_is_a_category_where_an_option_says_so() -> None:
    cells = texts("1", "2", "1", "2", "nope", "1")
    columns, _ = infer(table(a=cells), Choice(categorical=("a",)))
    assert columns[0].categories == ("1", "2", "nope")


def test_a_proposed_option_can_be_pasted() -> None:
    cells = texts("1.5", "2.5", "x", "4")
    with pytest.raises(InputError, match="or give --categorical 'body mass' or --drop 'body mass'"):
        infer(table(**{"body mass": cells}))


def test_a_cell_that_does_not_fit_a_trained_schema_can_be_corrected_or_emptied() -> None:
    for kind, cell in (("numeric", "x"), ("count", "-1"), ("categorical", "c")):
        columns = Columns([Column("a", kind, ("a", "b") if kind == "categorical" else ())])
        with pytest.raises(InputError, match=r"; correct the cell, or empty it$"):
            columns.encode(table(a=texts(cell)))


def test_a_message_lists_eight_columns_of_a_wide_table() -> None:
    wide = table(**{f"c{i}": texts("1", "2") for i in range(80)})
    with pytest.raises(InputError, match=r"it has c0, c1, c2, c3, c4, c5, c6, c7, \.\.\.$"):
        infer(wide, Choice(drop=("nope",)))


def test_a_category_that_training_never_saw_is_named_by_line_and_column() -> None:
    columns = Columns([Column("a", "categorical", ("x", "y"))])
    with pytest.raises(InputError, match=r"line 4, column 'a': 'z' is not one of the 2 values"):
        columns.encode(table(a=texts("x", "y", "z")))


def test_equal_column_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"column names must differ; 'a' occurs more than once"):
        RawTable("t.csv", ("a", "a"), (texts("1"), texts("2")))


def test_a_data_frame_of_every_dtype_is_read() -> None:
    frame = pandas.DataFrame(
        {
            "whole": pandas.array([70, None, 90, 95], dtype="Int64"),
            "real": np.array([0.5, np.nan, 1.5, 2.5], np.float32),
            "truth": [True, False, True, False],
            "text": pandas.Categorical(["a", "b", None, "b"]),
        },
        index=[3, 1, 2, 0],
    )
    assert is_frame(frame)
    columns, _ = infer(from_frame(frame), Choice(categorical=("text",)))
    assert columns.kinds == ("numeric", "numeric", "categorical", "categorical")
    values = columns.encode(from_frame(frame))
    nan = np.nan
    np.testing.assert_array_equal(values[:, 0], [70, nan, 90, 95])
    np.testing.assert_array_equal(values[:, 2], [1, 0, 1, 0])
    np.testing.assert_array_equal(values[:, 3], [0, 1, nan, 1])
    assert to_frame(columns.decode(values))["truth"].tolist() == [True, False, True, False]


def typed_frame() -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "code": ["01234", "01234", "00007", "00007"],
            "truth": pandas.array([True, None, False, True], dtype="boolean"),
            "level": pandas.Categorical([3, 1, None, 3]),
            "word": ["none", "?", "none", "?"],
            0: [1.5, 2.5, np.nan, 4.0],
        }
    )


def test_cells_of_a_data_frame_keep_their_types() -> None:
    columns, _ = infer(from_frame(typed_frame()))
    assert columns.names == ("code", "truth", "level", "word", "0")
    assert [column.categories for column in columns] == [
        ("00007", "01234"), (False, True), (1, 3), ("?", "none"), (),
    ]  # fmt: skip
    values = columns.encode(from_frame(typed_frame()))
    nan = np.nan
    np.testing.assert_array_equal(
        values,
        [[1, 1, 1, 1, 1.5], [1, nan, 0, 0, 2.5], [0, 0, nan, 1, nan], [0, 1, 1, 0, 4]],
    )
    again = Columns.from_json(json.loads(json.dumps(columns.to_json())))
    decoded = to_frame(again.decode(values[[0, 3]]))
    assert decoded["truth"].dtype == bool
    assert decoded["level"].tolist() == [3, 3]
    assert decoded["code"].tolist() == ["01234", "00007"]


def test_texts_of_numbers_in_a_data_frame_are_numbers_where_an_option_says_so() -> None:
    frame = pandas.DataFrame({"x": ["1.5", "2.5", "?", "4"], "y": [0.5, 1.5, 2.5, 3.5]})
    columns, notes = infer(from_frame(frame))
    assert columns.names == ("y",)
    assert "its numbers are texts; convert it to numbers, or give --numeric x" in notes[0]
    columns, _ = infer(from_frame(frame), Choice(numeric=("x",)))
    np.testing.assert_array_equal(columns.encode(from_frame(frame))[:, 0], [1.5, 2.5, np.nan, 4])


def test_objects_of_a_data_frame_are_numbers_texts_or_truth_values() -> None:
    frame = pandas.DataFrame(
        {
            "number": [1, None, 2.5],
            "mixed": [1, "b", True],
            "truth": [True, None, False],
            "blank": ["a", " ", pandas.NA],
        },
        dtype=object,
    )
    table = from_frame(frame)
    np.testing.assert_array_equal(table.cells[0], [1, np.nan, 2.5])
    assert [cells.tolist() for cells in table.cells[1:]] == [
        ["1", "b", "True"], [True, None, False], ["a", None, None],
    ]  # fmt: skip
    half = pandas.DataFrame({"a": pandas.Series(["half \ud83d", "b"], dtype=object)})
    with pytest.raises(InputError, match="half of a surrogate pair"):
        from_frame(half)


def test_a_mark_of_a_missing_cell_is_a_category_only_where_training_saw_it_as_a_text() -> None:
    seen, _ = infer(from_frame(pandas.DataFrame({"a": ["none", "b", "none", "b"]})))
    of_file, _ = infer(table(a=texts("c", "b", "none", "c", "b")))
    frame = from_frame(pandas.DataFrame({"a": ["none", "b"]}))
    np.testing.assert_array_equal(seen.encode(frame)[:, 0], [1, 0])
    np.testing.assert_array_equal(of_file.encode(frame)[:, 0], [np.nan, 0])
    np.testing.assert_array_equal(seen.encode(table(a=texts("none", "")))[:, 0], [1, np.nan])


@pytest.mark.parametrize("text", ["True", "true", "TRUE"])
def test_a_file_writes_truth_values_in_any_case(text: str) -> None:
    columns = Columns([Column("a", "categorical", (False, True))])
    assert columns.encode(table(a=texts(text)))[0, 0] == 1


@pytest.mark.parametrize("cells", [[1, 2, 1, 2, np.inf], [0.5, 1.5, -np.inf], [np.inf, np.inf, 1]])
def test_infinity_in_a_data_frame_is_named(cells: list[float]) -> None:
    frame = pandas.DataFrame({"a": cells})
    with pytest.raises(
        InputError, match=r"the data frame, row \d .* column 'a': '-?inf' is no fin"
    ):
        infer(from_frame(frame))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            [0.5, 0, 0],
            r"column 'kind' must hold positions of its categories, whole numbers 0\.\.1; ",
        ),
        ([2, 0, 0], "column 'kind' must hold positions"),
        ([-1, 0, 0], "got -1 in row 1"),
        ([0, -1, 0], "column 'count' must hold counts, whole numbers from 0"),
        ([0, 1.5, 0], "column 'count' must hold counts"),
        ([0, np.inf, 0], "column 'count' must hold counts"),
        ([0, 0, np.inf], "column 'size' must hold finite"),
    ],
)
def test_codes_that_no_cell_has_are_named_by_their_column(row: list[float], message: str) -> None:
    columns = Columns(
        [
            Column("kind", "categorical", ("a", "b")),
            Column("count", "count"),
            Column("size", "numeric"),
        ]
    )
    columns.check(np.array([[0, 3, -0.5], [np.nan] * 3]))
    with pytest.raises(InputError, match=message):
        columns.check(np.array([[0, 3, -0.5], row]))


@pytest.mark.parametrize("kind", COLUMN_KINDS)
def test_every_kind_decodes_what_it_encodes(kind: str) -> None:
    raw = table(a=texts("3", "", "0", "3"))
    rules = COLUMN_KINDS[kind]
    categories = rules.categories(raw, "a")
    decoded = rules.decode(rules.encode(raw, "a", categories), categories)
    assert [value for i, value in enumerate(decoded) if i != 1] == [3, 0, 3]
    assert decoded[1] is None or np.isnan(decoded[1])
