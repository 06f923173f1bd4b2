"""Runs and files of version 0.1.0 open, score, sample and decompress, by the public commands."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import make

from density.coding.container import unpack
from experiments.images.codec import ArrayCodec

GOLDEN = Path(__file__).parent / "golden"

# Relative, of every number of a command. A Frechet distance squares small differences of features.
TOLERANCE = {"likelihood": 1e-5, "encode": 1e-4, "audit": 1e-4, "evaluate-gan": 1e-3}


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=sorted(make.RUNS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_run_scores_as_it_did(name: str, tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / name / "expected.json").read_text(encoding="utf-8"))
    scores = make.measure(name, make.copy_run(name, tmp_path), GOLDEN / "data", tmp_path)
    assert scores.keys() == expected.keys()
    for command, numbers in expected.items():
        assert scores[command].keys() == numbers.keys()
        for key, value in numbers.items():
            tolerance = TOLERANCE[command]
            message = (
                f"{name}: {key} of `univae {command}` has changed. If that is meant, a new "
                "order of random draws say, run: python tests/golden/make.py --scores"
            )
            close = pytest.approx(value, rel=tolerance, abs=tolerance / 10)
            assert scores[command][key] == close, message


def test_a_run_can_be_sampled(name: str, tmp_path: Path) -> None:
    run = make.copy_run(name, tmp_path)
    if name.startswith("text"):
        assert len(make.run("sample", run, "--count", 3)["samples"]) == 3
        texts = GOLDEN / "data" / "texts.txt"
        assert make.run("reconstruct", run, "--data", texts, "--limit", 2)
        assert make.run("interpolate", run, "a cat", "the dog", "--steps", 3)
        assert make.run("edit", run, "a cat", "--layers", 0, "--count", 2)
    elif name.startswith("gan"):
        result = make.run("sample", run, "--count", 4, "--out", tmp_path / "drawn.npz")
        assert result
        with np.load(tmp_path / "drawn.npz") as arrays:
            assert {len(array) for array in arrays.values()} == {4}
    elif name == "similar":
        corpus = tmp_path / "corpus.txt"
        corpus.write_bytes((GOLDEN / "data" / "corpus.txt").read_bytes())
        text = "a man sees a ball"
        assert len(make.run("search", run, text, "--corpus", corpus, "--count", 2)["results"]) == 2
        assert "results" in make.run("similar", run, text, "--count", 2, "--samples", 4)


def test_a_run_gets_a_report(name: str, tmp_path: Path) -> None:
    result = make.run("report", make.copy_run(name, tmp_path))
    assert Path(result["path"]).stat().st_size > 1000


@pytest.mark.parametrize("name", sorted(make.COMPRESSED))
def test_a_file_comes_back(name: str, tmp_path: Path) -> None:
    original = GOLDEN / "data" / make.COMPRESSED[name]
    again = tmp_path / f"again{original.suffix}"
    make.run("decompress", make.copy_run(name, tmp_path), GOLDEN / name / "data.bits", again)
    if original.suffix == ".txt":
        assert again.read_bytes() == original.read_bytes()
        return
    expected: Any = np.load(original)
    found = np.load(again)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("file", "waves"),
    [pytest.param("data.bits", False, marks=pytest.mark.slow), ("waves.bits", True)],
)
def test_autoregressive_pixels_come_back_from_either_order(
    file: str, waves: bool, tmp_path: Path
) -> None:
    packed = (GOLDEN / "neighbours" / file).read_bytes()
    header, _ = unpack(packed)
    assert header.coding.waves == waves
    assert header.blocks[0].plain < header.count
    run = make.copy_run("neighbours", tmp_path)
    make.run("decompress", run, GOLDEN / "neighbours" / file, tmp_path / "again.npy")
    expected = np.load(GOLDEN / "data" / "images.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), expected)


@pytest.mark.parametrize(
    ("name", "tiles", "in_blocks"),
    [
        ("images", {1: 1, 3999: 1, 4000: 4, 100_000: 4}, 4),
        ("neighbours", {1: 1, 6124: 1, 6125: 4, 24_499: 4, 24_500: 16}, 1),
    ],
)
def test_the_tile_grows_with_the_data_so_that_initial_bits_are_a_small_share(
    name: str, tiles: dict[int, int], in_blocks: int, tmp_path: Path
) -> None:
    codec = ArrayCodec(make.copy_run(name, tmp_path))
    for count, tile in tiles.items():  # images of 64 pixels of 8 bits
        assert codec.default_tile(count, block=10**6) == tile
    assert codec.default_tile(10**6, block=6124) == in_blocks


@pytest.mark.parametrize("name", sorted(make.COMPRESSED))
def test_a_run_still_writes_files_that_it_can_read(name: str, tmp_path: Path) -> None:
    original = GOLDEN / "data" / make.COMPRESSED[name]
    run = make.copy_run(name, tmp_path)
    result = make.run("compress", run, original, tmp_path / "new.bits", "--ideal-samples", 0)
    assert result["bytes_out"] == (tmp_path / "new.bits").stat().st_size


def test_no_run_tells_of_the_machine_that_wrote_it() -> None:
    for path in GOLDEN.rglob("*.json*"):
        text = path.read_text(encoding="utf-8")
        for prefix in ("/home/", "/root/", "/tmp/", "/Users/"):
            assert prefix not in text, path
