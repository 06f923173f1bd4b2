"""The commands compress and decompress on small runs: exact, honest in their numbers, and clear when they refuse."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_commands import WORDS

from experiments import compress, decompress, train_density, train_text
from experiments.cli import commands as cli
from experiments.data.readers import read
from experiments.evaluation.archivers import array_sizes, image_sizes, text_sizes, xz_primed
from experiments.text.code import join_pieces, pieces
from experiments.text.codec import TextCodec
from tests.old_runs import without_checksums

ODD = (
    "\n\n  two  spaces \r\n\u2028é😀\0\n\ufeffzürich\tx\n"
    + "long " * 60
    + "\nno newline at the end"
)


def lines(count: int, seed: int = 0) -> str:
    draw = np.random.default_rng(seed)
    return "".join(" ".join(draw.choice(WORDS, draw.integers(2, 9))) + "\n" for _ in range(count))


def text_run(out: Path, **options) -> Path:
    data = out.with_suffix(".txt")
    data.write_text(lines(300), encoding="utf-8")
    shape = {
        "width": 16,
        "heads": 2,
        "layers": 2,
        "latent_layers": 2,
        "latent_width": 3,
        "max_length": 24,
    }
    training = {
        "steps": 8,
        "batch_tokens": 256,
        "validation_texts": 10,
        "validation_samples": 2,
        "tokenizer": "bytes",
    }
    train_text.train(
        train_text.Config.of(text=str(data), out=out, **{**shape, **training, **options})
    )
    return out


def image_run(data: str, out: Path, **options) -> Path:
    settings = {
        "steps": 30,
        "latents": (3,),
        "hidden": (16,),
        "validation_data": 20,
        "validation_samples": 2,
    }
    train_density.train(train_density.Config.of(data=data, out=out, **{**settings, **options}))
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("runs")
    binary = np.random.default_rng(0).integers(0, 2, (200, 6, 6), dtype=np.uint8)
    np.save(folder / "binary.npy", binary)
    return {
        "standard": text_run(folder / "standard"),
        "learned": text_run(folder / "learned", prior="learned"),
        "grey": image_run("digits", folder / "grey", likelihood="logistic"),
        "binary": image_run(str(folder / "binary.npy"), folder / "binary"),
    }


@pytest.fixture(autouse=True)
def _as_a_user() -> None:
    torch.set_default_dtype(torch.float32)


def there_and_back(
    run: Path, source: Path | str, folder: Path, out: str, **options
) -> tuple[dict, Path]:
    compressed = {"out": folder / "file", "ideal_samples": 2, "overwrite": True, "store": False}
    found = compress.main(compress.Config(run=run, data=str(source), **{**compressed, **options}))
    decompress.main(
        decompress.Config(run=run, data=folder / "file", out=folder / out, overwrite=True)
    )
    return found, folder / out


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in argv])
    said = capsys.readouterr()
    assert stop.value.code == 2
    (line,) = [
        line for line in said.err.strip().splitlines() if not line.startswith(("\r", "compressing"))
    ][-1:]
    return line


# Texts.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("standard", {}, marks=pytest.mark.slow),
        ("learned", {"particles": 2, "tile": 8, "verify": False}),
    ],
)
def test_texts_come_back_to_the_last_byte(
    runs: dict[str, Path], name: str, options: dict, tmp_path: Path
) -> None:
    source = tmp_path / "source.txt"
    source.write_bytes((lines(10, seed=1) + ODD).encode())
    found, back = there_and_back(runs[name], source, tmp_path, "back.txt", **options)
    assert back.read_bytes() == source.read_bytes()
    assert found["bytes_in"] == source.stat().st_size
    assert found["bytes_out"] == (tmp_path / "file").stat().st_size
    assert (
        0 <= 8 * found["bytes_out"] - found["net_bits"] - found["initial_bits"] < 8 * 300
    )  # the header, and where long lines are cut


@settings(max_examples=4, deadline=None, derandomize=True)
@given(text=st.text(min_size=1, max_size=40))
def test_any_text_comes_back(
    runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("text")
    (folder / "source.txt").write_bytes(text.encode())
    _, back = there_and_back(
        runs["standard"], folder / "source.txt", folder, "back.txt", verify=False
    )
    assert back.read_bytes() == text.encode()


def test_the_net_rate_of_texts_is_the_bound(runs: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text(lines(60, seed=2))
    found, _ = there_and_back(runs["standard"], source, tmp_path, "back.txt", verify=False)
    share = (found["count"] - found["plain"]) / found["count"]
    assert found["net_bits"] == pytest.approx(share * found["ideal_bits"], rel=0.02)
    assert found["archivers"] == text_sizes(source.read_bytes())


@given(st.lists(st.lists(st.integers(3, 9), max_size=12), max_size=8), st.integers(2, 6))
def test_long_texts_are_cut_and_joined(texts: list[list[int]], longest: int) -> None:
    found, cut = pieces(texts, longest)
    assert all(len(ids) < longest for ids in found)
    assert join_pieces(found, cut) == texts


def test_what_a_text_run_cannot_code_is_refused(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sphere = text_run(tmp_path / "sphere", latent="vmf")
    words = text_run(tmp_path / "words", tokenizer="words")
    good = tmp_path / "sphere.txt"
    cases: list[tuple[Path, bytes | None, str]] = [
        (sphere, None, "Gaussian, because they are coded one coordinate at a time; got latent=vmf"),
        (words, b"the  cat\n", "line 1: the run's tokenizer (words) cannot restore it exactly"),
        (runs["standard"], b"a\xff", "byte 1 is no UTF-8 text"),
    ]
    for run, content, said in cases:
        source = good
        if content is not None:
            source = tmp_path / "bad.txt"
            source.write_bytes(content)
        assert said in refused(capsys, "compress", run, source, tmp_path / "file")
        assert not (tmp_path / "file").exists()
    assert "is no file" in refused(
        capsys, "compress", runs["standard"], tmp_path / "none", tmp_path / "file"
    )


# Arrays.


def test_arrays_come_back_with_dtype_and_shape(runs: dict[str, Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    given = {
        "plain": generator.integers(0, 17, (30, 8, 8)).astype(np.int64),
        "first": generator.integers(0, 17, (5, 1, 8, 8), dtype=np.uint8),
        "last": generator.integers(0, 17, (30, 8, 8, 1)).astype(">f4"),
    }
    for name, array in given.items():
        np.save(tmp_path / f"{name}.npy", array)
        _, back = there_and_back(
            runs["grey"], tmp_path / f"{name}.npy", tmp_path, f"{name}-back.npy"
        )
        again = np.load(back)
        assert again.dtype == array.dtype
        assert again.shape == array.shape
        assert (again == array).all()


def test_images_go_to_the_kind_of_file_a_name_asks_for(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    from PIL import Image

    array = np.random.default_rng(1).integers(0, 2, (12, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=array, labels=np.arange(12))
    found, back = there_and_back(runs["binary"], tmp_path / "a.npz", tmp_path, "back.npz")
    assert found["notes"] == ["a: its labels are not in the compressed file"]
    assert (np.load(back)["images"] == array).all()
    _, folder = there_and_back(runs["binary"], tmp_path / "a.npz", tmp_path, "pictures")
    shown = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    assert (np.stack(shown) == 255 * array).all()


@pytest.mark.slow
def test_a_model_that_codes_shorter_than_xz_is_used(runs: dict[str, Path], tmp_path: Path) -> None:
    bits = np.random.default_rng(2).integers(0, 2, (500, 6, 6), dtype=np.uint8)
    np.save(tmp_path / "bits.npy", bits)
    options = {"store": True, "verify": False, "ideal_samples": 0}
    found, back = there_and_back(
        runs["binary"], tmp_path / "bits.npy", tmp_path, "back.npy", **options
    )
    assert np.array_equal(np.load(back), bits)
    assert (found["blocks"], found["stored_blocks"]) == (1, 0)
    assert found["bytes_out"] == found["model_bytes"] < found["archivers"]["xz"]
    assert "opens only with the weights of" in found["key"]
    assert found["fingerprint"][:16] in found["key"]


@pytest.mark.slow
def test_a_table_comes_back(tmp_path: Path) -> None:
    table = np.random.default_rng(0).integers(0, 2, (120, 5)).astype(np.uint8)
    np.save(tmp_path / "table.npy", table)
    run = image_run(str(tmp_path / "table.npy"), tmp_path / "run")
    np.save(tmp_path / "wide.npy", table.astype(np.int32))
    found, back = there_and_back(run, tmp_path / "wide.npy", tmp_path, "back.npy")
    assert np.load(back).dtype == np.int32
    assert (np.load(back) == table).all()
    assert found["archivers"] == array_sizes(table.astype(np.int32))


def test_the_numbers_of_images_add_up(runs: dict[str, Path], tmp_path: Path) -> None:
    digits = read("digits").values[:160]
    np.save(tmp_path / "digits.npy", digits)
    found, _ = there_and_back(
        runs["grey"], tmp_path / "digits.npy", tmp_path, "back.npy", tile=8, verify=False
    )
    coded = (found["count"] - found["plain"]) * 64
    assert found["net_bits_per_dim"] == pytest.approx(found["net_bits"] / coded)
    assert found["net_bits_per_dim"] == pytest.approx(found["ideal_bits_per_dim"], rel=0.02)
    assert found["bits_per_dim"] == 8 * found["bytes_out"] / digits.size
    assert found["archivers"].keys() == {"gzip", "bz2", "xz", "png"}
    assert json.dumps(found)


def test_what_an_image_run_cannot_code_is_refused(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "grey.npy", np.full((9, 6, 6), 200, np.uint8))
    np.save(tmp_path / "real.npy", np.full((9, 6, 6), 0.5))
    np.save(tmp_path / "other.npy", np.zeros((9, 5, 6), np.uint8))
    for name, said in {
        "grey": "whole numbers 0..1; got 200; binarise the data first",
        "real": "whole numbers 0..1; got 0.5",
        "other": "a datum is (1, 5, 6), the model of",
    }.items():
        assert said in refused(
            capsys, "compress", runs["binary"], tmp_path / f"{name}.npy", tmp_path / "file"
        )
    real = image_run("iris", tmp_path / "iris")
    assert "likelihood=gaussian gives a density, which has no frequencies to code with" in refused(
        capsys, "compress", real, "iris", tmp_path / "file"
    )
    assert not (tmp_path / "file").exists()


# Files that are damaged, foreign or of another run.


def test_bad_files_end_with_one_line_and_leave_nothing(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.txt"
    file = tmp_path / "file"
    out = tmp_path / "back.txt"
    source.write_text(lines(8))
    config = compress.Config(
        run=runs["standard"], data=str(source), out=file, ideal_samples=0, verify=False, store=False
    )
    compress.main(config)
    content = file.read_bytes()
    other = "the model must be"
    assert other in refused(capsys, "decompress", runs["learned"], file, out)
    assert other in refused(capsys, "decompress", runs["grey"], file, tmp_path / "back.npy")
    assert "give a name that ends in .txt" in refused(
        capsys, "decompress", runs["standard"], file, tmp_path / "b.npy"
    )
    assert "is no file" in refused(capsys, "decompress", runs["standard"], tmp_path / "none", out)
    damage = "the file is damaged or cut short"
    foreign = "not a file of univae compress"
    for broken, message in (
        (content[:-1], damage),
        (content[:20], damage),
        (b"", foreign),
        (bytes([*content[:-5], content[-5] ^ 1, *content[-4:]]), damage),
        (b"x" * 99, foreign),
    ):
        file.write_bytes(broken)
        assert message in refused(capsys, "decompress", runs["standard"], file, out)
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "file"}


@pytest.mark.slow
def test_the_commands_print_json_and_read_with_other_threads(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(lines(20))

    def command(threads: int, *argv: object) -> dict:
        said = subprocess.run(
            [sys.executable, "-m", "experiments.cli", *map(str, argv)],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            cwd=Path(__file__).parents[2],
        )
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout.splitlines()[-1])

    run = runs["learned"]
    found = command(
        1,
        "compress",
        run,
        tmp_path / "a.txt",
        tmp_path / "file",
        "--no-verify",
        "--no-store",
        "--ideal-samples",
        0,
    )
    assert {"bytes_in", "bytes_out", "net_bits", "initial_bits", "bits_per_char"} <= found.keys()
    command(2, "decompress", run, tmp_path / "file", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_bytes() == (tmp_path / "a.txt").read_bytes()


# What others make of the same data.


def test_archivers_are_given_the_smaller_form() -> None:
    x = np.random.default_rng(0).integers(0, 2, (50, 1, 8, 8))
    sizes = image_sizes(x, 2)
    assert sizes["gzip"] <= len(
        gzip.compress(np.packbits(x.reshape(50, -1), axis=1).tobytes(), 9, mtime=0)
    )
    assert sizes["png"] > 50 * 60  # a file each


def test_xz_that_has_read_the_text_writes_next_to_nothing() -> None:
    text = lines(500).encode()
    assert xz_primed(text, text) < 0.05 * text_sizes(text)["xz"]
    assert xz_primed(text, b"x") == pytest.approx(text_sizes(text)["xz"], rel=0.05)


def test_a_tokenizer_is_part_of_the_fingerprint(runs: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(runs["standard"], copy)
    assert TextCodec(copy).fingerprint == TextCodec(runs["standard"]).fingerprint
    without_checksums(copy)
    (copy / "data.json").unlink()  # which would tell that the tokenizer is another
    (copy / "tokenizer.json").write_text(json.dumps({"kind": "chars", "characters": ""}))
    assert TextCodec(copy).fingerprint != TextCodec(runs["standard"]).fingerprint
