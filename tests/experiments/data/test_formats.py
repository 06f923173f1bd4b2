"""Every row of the registries of data: files are recognised, read back, and refused if damaged."""

import importlib
import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pytest
from PIL import Image
from typing_extensions import Doc

from experiments.cli.commands import COMMANDS
from experiments.data.built_in import BUILT_IN
from experiments.data.numpy_files import write_npz
from experiments.data.pair_files import PAIR_FORMATS, read_rows
from experiments.data.readers import FORMATS, READERS, read
from experiments.training.configuration import options_of
from univae.errors import InputError
from univae.text.corpus import Removed

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
NUMBERS = np.random.default_rng(1).normal(size=(6, 3))


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for row, image in enumerate(IMAGES):
            content = BytesIO()
            Image.fromarray(image).save(content, "PNG")
            archive.writestr(f"{row}.png", content.getvalue())


def write_idx(path: Path) -> None:
    sizes = b"".join(size.to_bytes(4, "big") for size in IMAGES.shape)
    path.write_bytes(bytes([0, 0, 8, IMAGES.ndim]) + sizes + IMAGES.tobytes())


def write_csv(path: Path) -> None:
    lines = [",".join(map(str, row)) for row in NUMBERS.tolist()]
    path.write_text("\n".join(["x,y,z", *lines, ""]))


def write_npz_file(path: Path) -> None:
    with path.open("wb") as file:
        write_npz(file, {"images": IMAGES})


class Example(NamedTuple):
    """A file of a format: its name, what writes it, and the data set that is read back."""

    file_name: str
    write: Callable[[Path], None]
    values: np.ndarray = IMAGES[:, None]
    levels: int | None = 256
    kind: str = "images"


# For every row of READERS.
EXAMPLES: dict[str, Example] = {
    "images": Example("set.zip", write_zip),
    "npz": Example("set.npz", write_npz_file),
    "npy": Example("set.npy", lambda path: np.save(path, IMAGES)),
    "table": Example("set.csv", write_csv, NUMBERS, None, "table"),
    "idx": Example("set-idx3-ubyte", write_idx),
}


def written(name: str, folder: Path) -> Path:
    example = EXAMPLES[name]
    example.write(folder / example.file_name)
    return folder / example.file_name


def test_every_format_has_an_example_here() -> None:
    assert EXAMPLES.keys() == READERS.keys()


@pytest.mark.parametrize("name", READERS)
def test_the_first_row_that_recognises_a_file_is_its_own(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    assert next(row for row in READERS if READERS[row].recognises(path)) == name
    upper = path.rename(tmp_path / path.name.upper())
    assert next(row for row in READERS if READERS[row].recognises(upper)) == name


@pytest.mark.parametrize("name", READERS)
def test_every_format_reads_back_what_was_written(name: str, tmp_path: Path) -> None:
    data = read(written(name, tmp_path))
    example = EXAMPLES[name]
    assert np.array_equal(data.values, example.values)
    assert (data.levels, data.kind) == (example.levels, example.kind)
    assert data.name == written(name, tmp_path).stem
    assert np.array_equal(read(str(written(name, tmp_path))).values, data.values)


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("name", READERS)
def test_every_format_refuses_a_truncated_file_or_notes_it(
    name: str, kept: float, tmp_path: Path
) -> None:
    path = written(name, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    try:
        message = " ".join(read(path).notes)  # a text can end inside its last number
    except InputError as error:
        message = str(error)
    else:
        assert "may be cut off" in message
    assert path.name in message
    assert "\n" not in message


@pytest.mark.parametrize("name", READERS)
def test_every_format_refuses_a_garbled_header(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
    with pytest.raises(InputError) as refused:
        read(path)
    assert path.name in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", READERS)
def test_every_format_is_in_the_message_for_a_missing_file(name: str) -> None:
    assert READERS[name].summary in FORMATS
    with pytest.raises(InputError, match="is no file, folder or built-in set") as refused:
        read("nowhere.npy")
    assert READERS[name].summary in str(refused.value)


def test_the_formats_are_one_phrase() -> None:
    *first, last = [reader.summary for reader in READERS.values()]
    assert f"{', '.join(first)} or {last}" == FORMATS
    assert FORMATS.startswith(
        "a folder, .zip or .tar of images (PNG, JPEG, WebP, BMP, TIFF, GIF), .npz, .npy"
    )


@pytest.mark.parametrize("command", ["train-density", "train-gan", "compress"])
def test_every_format_and_built_in_set_is_in_the_help(command: str) -> None:
    module = importlib.import_module(COMMANDS[command][0])
    marks = get_args(options_of(module.Config)["data"].hint)[1:]
    (text,) = [mark.documentation for mark in marks if isinstance(mark, Doc)]
    for words in (*BUILT_IN, *(reader.summary for reader in READERS.values())):
        assert words in text


# test_glyphs.py has the sizes of the sets of glyphs, which are drawn when they are read
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if "glyphs" in name else []) for name in BUILT_IN],
)
def test_every_built_in_set_is_what_its_summary_says(name: str) -> None:
    row = BUILT_IN[name]
    data = read(name)
    assert data.name == name
    assert data.labels is not None
    assert len(data.labels) == len(data)
    assert row.summary.startswith(f"{len(data):,} ")
    if data.kind == "table":
        assert f" {data.shape[0]} columns" in row.summary
    if data.levels is None:
        assert np.isfinite(data.values).all()
    else:
        assert 0 <= data.values.min() < data.values.max() == data.levels - 1


def test_a_built_in_name_takes_precedence_over_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris").write_bytes(b"no data")
    assert len(read("iris")) == 150
    with pytest.raises(InputError, match="iris is neither an image set nor IDX"):
        read(tmp_path / "iris")


# .npz


def test_an_npz_holds_exactly_the_arrays_that_were_named(tmp_path: Path) -> None:
    arrays = {"images": IMAGES, "labels": np.arange(6)}
    with (tmp_path / "a.npz").open("wb") as file:
        write_npz(file, arrays)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert sorted(stored.files) == ["images", "labels"]
        for name, array in arrays.items():
            assert np.array_equal(stored[name], array)
            assert stored[name].dtype == array.dtype


def test_an_npz_takes_no_objects(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        with pytest.raises(InputError, match="array 'x' holds Python objects"):
            write_npz(file, {"x": np.array([{}], object)})
        assert file.tell() == 0


# Texts that belong together

ROWS = [["a b", "c"], ["d", "e", "f 1"], ["g"]]
PAIR_WRITERS: dict[str, tuple[str, str]] = {
    "jsonl": ("a.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
    "json": ("a.json", json.dumps(ROWS, indent=1) + "\n"),
    "csv": ("a.csv", "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in ROWS)),
    "tsv": ("a.tsv", "".join("\t".join(row) + "\n" for row in ROWS)),
}


def test_every_format_of_pairs_has_a_file_here() -> None:
    assert PAIR_WRITERS.keys() == PAIR_FORMATS.keys()


@pytest.mark.parametrize("name", PAIR_FORMATS)
def test_every_format_of_pairs_is_recognised_and_read_back(name: str, tmp_path: Path) -> None:
    file_name, content = PAIR_WRITERS[name]
    for path in (tmp_path / file_name, tmp_path / file_name.upper()):
        path.write_text(content)
        assert next(row for row in PAIR_FORMATS if PAIR_FORMATS[row].recognises(path)) == name
        rows = list(read_rows(path, Removed()))
        assert [row.cells for row in rows] == ROWS
        assert all(row.where.startswith(str(path)) for row in rows)
    assert PAIR_FORMATS[name].summary


@pytest.mark.parametrize("name", PAIR_FORMATS)
def test_every_format_of_pairs_names_the_file_that_is_no_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / PAIR_WRITERS[name][0]
    for content in (b"", b"\n\n", b"\xff\xfe\n", b"a\0b\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=path.name) as refused:
            list(read_rows(path, Removed()))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", PAIR_FORMATS)
def test_every_format_of_pairs_counts_blank_lines(name: str, tmp_path: Path) -> None:
    path = tmp_path / PAIR_WRITERS[name][0]
    path.write_text("\n" + PAIR_WRITERS[name][1] + "\n")
    removed = Removed()
    assert [row.cells for row in read_rows(path, removed)] == ROWS
    assert removed.blank_lines == 2
