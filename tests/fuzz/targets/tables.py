"""Tables with named columns: .csv, .tsv, .parquet, and the stored data frame of a run."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet  # noqa: F401  pandas imports it while it reads

from density.tables.inference import Choice
from experiments.data.frame_files import write_frame
from experiments.data.readers import read as read_data
from experiments.data.records import describe
from experiments.data.table_files import as_numbers
from tests.fuzz.target import Target

FRAME = pd.DataFrame(
    {
        "x": [0.5, 1.5, None, 2.5, 3.25, 9.0] * 2,
        "n": [1, 2, 3, 4, 5, 6] * 2,
        "colour": ["red", "blue", "red", None, "green", "blue"] * 2,
        "flag": [True, False, True, True, False, False] * 2,
    }
)


def make(folder: Path) -> Sequence[Path]:
    FRAME.to_csv(folder / "plain.csv", index=False)
    FRAME.to_csv(folder / "semicolons.csv", index=False, sep=";", decimal=",")
    FRAME.to_csv(folder / "tabs.tsv", index=False, sep="\t")
    FRAME.to_csv(folder / "quoted.csv", quoting=1)
    FRAME[["x", "n"]].to_csv(folder / "numbers.csv", index=False, header=False)
    FRAME.to_parquet(folder / "table.parquet")
    write_frame(FRAME, folder / "stored.frame.json")
    return sorted(folder.iterdir())


def read(path: Path) -> None:
    data = read_data(path)
    record = json.loads(json.dumps(describe(data, str(path)), default=str))
    assert record["count"] == len(data)
    data.batch(slice(0, 2))


def make_numbers(folder: Path) -> Sequence[Path]:
    numbers = FRAME[["x", "n"]].dropna()
    numbers.to_csv(folder / "numbers.csv", index=False)
    numbers.to_parquet(folder / "numbers.parquet")
    return sorted(folder.iterdir())


def read_numbers(path: Path) -> None:
    as_numbers(read_data(path, schema=Choice(categorical=())), "the battery")


TARGETS: list[Target] = [
    Target("tables", make, read),
    Target("tables-as-numbers", make_numbers, read_numbers),
]
