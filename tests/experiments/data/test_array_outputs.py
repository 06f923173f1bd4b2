"""A result is a file in the format of its suffix, and reads back as what was written."""

import csv
import json
import os
import stat
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.data import array_outputs
from experiments.data.array_outputs import (
    CODES,
    IMAGE_PATH,
    IMAGES,
    TABLE,
    TEXTS,
    WRITERS,
    Contents,
    Part,
    code_columns,
    growing_result,
    is_animation,
    result_file,
    result_in_run,
    write_result,
)
from experiments.data.readers import read
from experiments.reports.image_grid import gif, png
from univae.errors import InputError

IMAGE = np.arange(24).reshape(2, 1, 3, 4).astype(np.uint8)
COLUMNS = {
    "length": np.array([0.1, 2.5], np.float32),
    "count": np.array([3, 4]),
    "kind": ["a, b", 'the "other"'],
}
CONTENTS = Contents(
    arrays={"images": IMAGE, "labels": np.array([1, 0])},
    columns=COLUMNS,
    texts=["one\nline", "zwei"],
    picture=png(torch.from_numpy(IMAGE), 256, 2),
)
ALL: tuple[Part, ...] = ("arrays", "columns", "texts", "picture", "animation")


def written(suffix: str, tmp_path: Path) -> Path:
    """Write the contents into a new file."""
    path = tmp_path / f"out{suffix}"
    out = result_file(path, ALL, [])
    files = write_result(out, CONTENTS)
    assert files["file"] == str(path)
    assert Path(files["picture"]).name == "out.png"
    return path


def test_an_animation_is_a_file_without_a_picture_beside(tmp_path: Path) -> None:
    path = tmp_path / "walk.gif"
    out = result_file(path, IMAGE_PATH, [])
    assert is_animation(out)
    files = write_result(out, Contents(animation=gif(torch.from_numpy(IMAGE), 24)))
    assert files == {"file": str(path)}
    assert [entry.name for entry in tmp_path.iterdir()] == ["walk.gif"]
    with Image.open(path) as animation:
        assert animation.n_frames == 2
        assert (animation.info["loop"], animation.info["duration"]) == (0, 100)
        assert animation.size == (160, 120)  # 40 pixels for each
        for number in range(2):
            animation.seek(number)
            grey = np.asarray(animation.convert("L"))
            expected = (
                np.round(IMAGE[number, 0].astype(float) * 255 / 23).repeat(40, 0).repeat(40, 1)
            )
            np.testing.assert_allclose(grey, expected, atol=1)
    with pytest.raises(InputError, match=r"must end in \.npz, \.npy or \.png; give one"):
        result_file(path, IMAGES, [])


def test_an_animation_of_colours_keeps_them_and_one_of_two_channels_is_refused() -> None:
    colours = torch.zeros(3, 3, 8, 8)
    for channel in range(3):
        colours[channel, channel] = 255
    with Image.open(BytesIO(gif(colours, 256))) as animation:
        for channel in range(3):
            animation.seek(channel)
            pixel = animation.convert("RGB").getpixel((5, 5))
            assert pixel == tuple(255 * (i == channel) for i in range(3))
    with pytest.raises(InputError, match="1 or 3 channels; these have 2"):
        gif(colours[:, :2], 256)


def test_text_is_one_a_line(tmp_path: Path) -> None:
    assert written(".txt", tmp_path).read_text(encoding="utf-8") == "one line\nzwei\n"


def test_csv_quotes_its_cells_and_writes_numbers_short(tmp_path: Path) -> None:
    with written(".csv", tmp_path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [list(COLUMNS), ["0.1", "3", "a, b"], ["2.5", "4", 'the "other"']]


def test_jsonl_has_an_object_a_row(tmp_path: Path) -> None:
    lines = written(".jsonl", tmp_path).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"length": 0.1, "count": 3, "kind": "a, b"},
        {"length": 2.5, "count": 4, "kind": 'the "other"'},
    ]


def test_parquet_keeps_names_and_dtypes(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.read_parquet(written(".parquet", tmp_path))
    assert list(frame) == list(COLUMNS)
    assert frame["length"].dtype == np.float32
    assert frame["kind"].tolist() == COLUMNS["kind"]


def test_arrays_read_back_as_data(tmp_path: Path) -> None:
    data = read(written(".npz", tmp_path))
    assert np.array_equal(data.values, IMAGE)
    assert data.labels is not None
    assert data.labels.tolist() == [1, 0]
    (tmp_path / "second").mkdir()
    assert np.array_equal(read(written(".npy", tmp_path / "second")).values, IMAGE)


def test_a_picture_lies_beside_arrays_or_is_the_file(tmp_path: Path) -> None:
    written(".npz", tmp_path)
    with Image.open(tmp_path / "out.png") as beside:
        size = beside.size
    (tmp_path / "out.png").unlink()
    written(".png", tmp_path)
    with Image.open(BytesIO((tmp_path / "out.png").read_bytes())) as alone:
        assert alone.size == size


@pytest.mark.parametrize(
    ("parts", "suffixes"),
    [
        (TEXTS, r"\.txt, \.csv, \.tsv, \.jsonl or \.parquet"),
        (TABLE, r"\.csv, \.tsv, \.jsonl, \.parquet, \.npz or \.npy"),
        (CODES, r"\.csv, \.tsv, \.jsonl, \.parquet, \.npz or \.npy"),
        (IMAGES, r"\.npz, \.npy or \.png"),
    ],
)
def test_another_suffix_is_refused_with_the_list(
    parts: tuple[Part, ...], suffixes: str, tmp_path: Path
) -> None:
    for name in ("out.xlsx", "out"):
        with pytest.raises(InputError, match=rf"--out .*{name}: must end in {suffixes}; give one"):
            result_file(tmp_path / name, parts, [])


def test_a_format_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_outputs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"\.parquet needs pyarrow; pip install 'univae\[tables\]'"
    ):
        result_file(tmp_path / "out.parquet", TABLE, [])
    assert result_file(tmp_path / "out.csv", TABLE, []).path == tmp_path / "out.csv"


def test_an_existing_picture_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"out\.png: it exists"):
        result_file(tmp_path / "out.npz", IMAGES, [])
    result_file(tmp_path / "out.npz", TABLE, [])  # has no picture
    result_file(tmp_path / "out.npz", IMAGES, [], overwrite=True)


def test_without_a_path_a_result_lies_in_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for _ in range(2):  # the second replaces the first
        out = result_in_run(None, "drawn.npz", IMAGES, tmp_path)
        files = write_result(out, CONTENTS)
    assert files["picture"] == str(tmp_path / "samples" / "drawn.png")
    with pytest.raises(InputError, match=r"drawn\.npz: it exists"):
        result_in_run(tmp_path / "samples" / "drawn.npz", "", IMAGES, tmp_path)


def test_a_device_is_written_to_without_a_picture_beside(tmp_path: Path) -> None:
    files = write_result(result_file(Path(os.devnull), IMAGES, []), CONTENTS)
    assert files == {"file": os.devnull}
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".npy", ".npz", ".parquet"])
def test_rows_that_come_in_parts_make_the_file_of_all_rows(suffix: str, tmp_path: Path) -> None:
    values = np.arange(22, dtype=np.float32).reshape(11, 2) / 7
    parts: tuple[Part, ...] = ("arrays", "columns")

    def contents(rows: slice) -> Contents:
        columns = {"name": list("abcdefghijk")[rows], **code_columns(values[rows])}
        return Contents(arrays={"x": values[rows]}, columns=columns)

    whole = result_file(tmp_path / f"whole{suffix}", parts, [])
    write_result(whole, contents(slice(None)))
    out = result_file(tmp_path / f"grown{suffix}", parts, [])
    with growing_result(out, parts) as file:
        for start in (0, 4, 8):
            file.add(contents(slice(start, start + 4)))
        assert not out.path.exists()
    if suffix in (".npz", ".parquet"):  # archives hold the time
        assert out.path.stat().st_size == whole.path.stat().st_size
    else:
        assert out.path.read_bytes() == whole.path.read_bytes()


def test_a_file_that_grows_is_deleted_where_its_rows_fail(tmp_path: Path) -> None:
    out = result_file(tmp_path / "grown.npy", ("arrays",), [])
    with pytest.raises(StopIteration), growing_result(out, ("arrays",)) as file:
        file.add(next(iter([])))
    assert list(tmp_path.iterdir()) == []


def test_every_format_takes_a_part_of_a_result() -> None:
    for suffix, writer in WRITERS.items():
        assert suffix.startswith(".")
        assert writer.part in ALL


def test_columns_of_codes_are_numbered() -> None:
    codes = np.arange(12).reshape(2, 3, 2)
    columns = code_columns(codes)
    assert list(columns) == ["z0_0", "z0_1", "z1_0", "z1_1", "z2_0", "z2_1"]
    assert columns["z1_0"].tolist() == [2, 8]
    assert list(code_columns(codes[:, 0])) == ["z0", "z1"]
