"""Uses that are wrong: each ends with exit code 2 and one line on stderr, and leaves nothing behind.

``python -m tests.experiments.test_wrong_uses`` prints every use with its message.
"""

import contextlib
import io
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.cli.commands import main
from univae.exported import exported_files, write_export

GOLDEN = Path(__file__).parents[1] / "golden"
RUNS = ("text", "images", "table", "gan_images", "gan_table", "similar")  # folders of old runs

# The arguments of ``univae`` in a folder of files and runs, see :func:`make_files`.
USES = (
    # commands and options that do not exist, or are misspelt
    "trian-text --text texts.txt --out new",
    "train --data digits",
    "--frobnicate",
    "train-text --text texts.txt --out new --step 5",
    "train-text --text texts.txt --out new --epochs 3",
    "train-text --text texts.txt --out new --preset huge",
    "train-density --data digits --out new --model resnet",
    "train-gan --data digits --out new --optimizer sgd2",
    "train-text --text texts.txt",
    "sample",
    # values that break their rules
    "train-text --text texts.txt --out new --steps 0",
    "train-text --text texts.txt --out new --steps many",
    "train-text --text texts.txt --out new --lr -1",
    "train-text --text texts.txt --out new --minutes nan",
    "train-text --text texts.txt --out new --width 10 --heads 3",
    "train-density --data digits --out new --held-out 1.5",
    "train-density --data digits --out new --kl-weight -1",
    "train-gan --data digits --out new --device cuda:99",
    "likelihood text --data texts.txt --samples 0",
    "sample text --count 0",
    "sample text --temperature -1",
    "interpolate text 'a cat' 'a dog' --steps 1",
    "edit text 'a cat' --layers 9",
    # files that are missing, empty, damaged, or of another format
    "train-text --text missing.txt --out new",
    "train-text --text empty.txt --out new",
    "train-text --text latin1.txt --out new",
    "train-text --text pictures --out new",
    "train-text --text numbers.csv --out new",
    "train-text --text mixed.csv --column nothing --out new",
    "train-density --data missing.npy --out new",
    "train-density --data damaged.npz --out new",
    "train-density --data empty.csv --out new",
    "train-density --data ragged.csv --out new",
    "train-density --data nan.npy --out new",
    "train-density --data mixed --out new",
    "train-density --data broken --out new",
    "train-gan --data texts.txt --out new",
    "train-density --data pickled.npy --out new",
    "train-similar --pairs ids.tsv --out new",
    "train-similar --pairs one.txt --out new",
    "train-similar --pairs deep.jsonl --out new",
    "train-similar --pairs pairs.tsv --columns a b --out new",
    # too little data
    "train-density --data three.npy --out new",
    "train-text --text two.txt --out new",
    # runs that are none, of another kind, or have other data
    "sample missing",
    "sample pictures",
    "sample similar",
    "reconstruct gan_images --data digits",
    "encode gan_table --data table.csv --out codes.npy",
    "edit images 0 --layers 0",
    "likelihood gan_images --data digits",
    "likelihood images --data table.npy",
    "likelihood text --data missing.txt",
    "similar text 'a cat'",
    "search text --corpus texts.txt 'a cat'",
    "audit text",
    "compress gan_images digits.npy out.bits",
    "decompress text texts.txt back.txt",
    "decompress images text.bits back.npy",
    "train-density --from text --data digits --out new",
    "train-text --resume --out missing --text texts.txt",
    # exports, where a run folder is needed
    "report key.univae",
    "calibrate key.univae",
    "sample key.univae --count 2 --seed 1 --checkpoint middle",
    "train-density --resume --out key.univae",
    # outputs that would cost the user a file, or have no format
    "encode text --data texts.txt --out texts.txt",
    "encode text --data texts.txt --out codes.docx",
    "sample images --count 2 --out drawn.xyz",
    "compress text texts.txt kept.bits",
    "decompress text text.bits pictures",
    "train-text --text texts.txt --out text",
    "sample text --count 2 --out nowhere/at/all.txt",
)


def make_files(folder: Path) -> None:
    """Write small files of many sorts and the runs of an earlier version."""
    lines = "".join(f"a cat sees {what}\n" for what in ("me", "you", "it", "us", "them") * 3)
    texts = {
        "texts.txt": lines,
        "two.txt": "one\ntwo\n",
        "one.txt": "a single column\nof texts\nis no pair\n",
        "empty.txt": "",
        "numbers.csv": "a,b\n" + "".join(f"{i},{i * i}\n" for i in range(30)),
        "mixed.csv": "text,score\n" + "".join(f"a cat {i},{i}\n" for i in range(30)),
        "empty.csv": "",
        "ragged.csv": "a,b\n1,2\n3\n4,5,6\n",
        "table.csv": "a,b\n" + "".join(f"{i / 7:.3f},{i % 5}.5\n" for i in range(30)),
        "ids.tsv": "".join(f"q{i}\ta cat {i}\ta dog {i}\n" for i in range(30)),
        "deep.jsonl": "[" * 10**5 + "]" * 10**5 + "\n",
        "pairs.tsv": "".join(f"a cat {i}\ta small cat {i}\n" for i in range(30)),
        "kept.bits": "precious",
    }
    for name, content in texts.items():
        (folder / name).write_text(content)
    (folder / "latin1.txt").write_bytes("caf\xe9\n".encode("latin-1") * 20)
    (folder / "damaged.npz").write_bytes(b"PK\x03\x04 no archive")
    arrays = {
        "digits.npy": np.zeros((4, 1, 8, 8), np.uint8),
        "table.npy": np.ones((5, 7)),
        "three.npy": np.random.default_rng(0).integers(0, 2, (3, 8, 8)).astype(np.uint8),
        "nan.npy": np.full((30, 4, 4), np.nan),
    }
    for name, array in arrays.items():
        np.save(folder / name, array)
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name, sides in (("pictures", (8, 8)), ("mixed", (8, 9)), ("broken", (8, 8))):
        (folder / name).mkdir()
        for number, side in enumerate(sides):
            picture = Image.fromarray(np.full((side, 8), 40 * number, np.uint8))
            picture.save(folder / name / f"{number}.png")
    (folder / "broken" / "1.png").write_bytes(b"\x89PNG no picture")
    for name in RUNS:
        shutil.copytree(GOLDEN / name / "run", folder / name)
    shutil.copy(GOLDEN / "text" / "data.bits", folder / "text.bits")
    files = exported_files(folder / "images", {"best": folder / "images" / "checkpoints" / "best"})
    write_export(files, folder / "key.univae")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        make_files(Path(path))
        yield Path(path)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every file's bytes, and None for folders, by their paths."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def used(line: str) -> tuple[object, str, str]:
    """Return exit code, stdout and stderr of a use."""
    out = io.StringIO()
    error = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main(shlex.split(line))
        except SystemExit as end:
            return end.code, out.getvalue(), error.getvalue()
    raise AssertionError("main returned")


def test_there_are_sixty_of_them() -> None:
    assert len(set(USES)) >= 60


@pytest.mark.parametrize("line", USES)
def test_a_wrong_use_is_one_line_with_code_2_and_leaves_everything_as_it_was(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = contents(folder)
    code, out, error = used(line)
    messages = [text for text in error.splitlines() if not text.startswith("note: ")]
    assert code == 2
    assert out == ""
    assert len(messages) == 1
    assert messages[0].startswith("univae")
    assert len(messages[0]) < 400
    assert "Traceback" not in error
    assert contents(folder) == before


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as path:
        make_files(Path(path))
        os.chdir(path)
        for number, line in enumerate(USES, 1):
            code, _, error = used(line)
            print(f"{number:2} univae {line}\n   [{code}] {error.strip()}")
