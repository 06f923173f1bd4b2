"""Compress as a tool: whole folders, standard streams, no file above xz and 64 bytes, nothing half-written."""

import errno
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import make
from PIL import Image

from density.coding.archive import Archive, pack_archive
from density.coding.container import pack, unpack
from experiments import compress, decompress
from experiments.data.trees import read_tree
from experiments.evaluation.folder_content import restore_folder
from experiments.kinds import open_codec
from univae.errors import InputError

XZ = 9 | lzma.PRESET_EXTREME
ROOT = Path(__file__).parents[2]
IMAGES = np.load(ROOT / "tests" / "golden" / "data" / "images.npy")


@pytest.fixture(autouse=True)
def _as_a_user() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: make.copy_run(name, folder) for name in ("text", "images", "table")}


def packed(run: Path, data: Path | str, out: Path, **options: Any) -> dict[str, Any]:
    config = {"run": run, "data": str(data), "out": out, "ideal_samples": 0, **options}
    return compress.main(compress.Config(**config))


def unpacked(run: Path, data: Path, out: Path) -> Path:
    decompress.main(decompress.Config(run=run, data=data, out=out))
    return out


def photos(folder: Path) -> Path:
    """Write images that the model codes, and files that it does not."""
    for number, image in enumerate(IMAGES[:12]):
        path = folder / ("cats" if number % 2 else "dogs/big") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    Image.fromarray(IMAGES[0]).save(folder / "cats" / "lossy.jpg")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "other size.png")
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(folder / "alpha.png")
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(folder / "16 bits.png")
    (folder / "README.txt").write_text("Zürich\n", encoding="utf-8")
    (folder / ".hidden").write_bytes(b"")
    (folder / "empty").mkdir()
    (folder / "README.txt").chmod(0o600)
    return folder


def tar_xz(folder: Path) -> int:
    """Return the size of a folder's .tar.xz without names of users."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in read_tree(folder).members:
            entry = archive.gettarinfo(folder / member.name, member.name)
            entry.uname = entry.gname = ""
            entry.uid = entry.gid = 0
            content = io.BytesIO(member.content or b"") if entry.isfile() else None
            archive.addfile(entry, content)
    return len(lzma.compress(buffer.getvalue(), preset=XZ))


# Folders.


@pytest.mark.parametrize("store", [True, False])
def test_a_folder_of_images_comes_back_whole(
    runs: dict[str, Path], tmp_path: Path, store: bool
) -> None:
    source = photos(tmp_path / "photos")
    (source / "link").symlink_to("README.txt")
    result = packed(runs["images"], source, tmp_path / "bits", store=store)
    out = unpacked(runs["images"], tmp_path / "bits", tmp_path / "photos.2")
    expected = read_tree(source).members
    members = read_tree(out).members
    assert [(m.name, m.mode, m.time) for m in members] == [
        (m.name, m.mode, m.time) for m in expected
    ]
    coded = 0
    for member, original in zip(members, expected, strict=True):
        if member.name.endswith(".png") and "/" in member.name:
            coded += 1
            pixels = [np.asarray(Image.open(io.BytesIO(m.content))) for m in (member, original)]
            assert np.array_equal(*pixels)
        else:
            assert member.content == original.content
    assert (result["files"], result["folders"]) == (18, 4)
    assert (result["pixels_exact"], result["bytes_exact"], coded) == (12, 6, 12)
    assert result["bytes_in"] == sum(len(m.content or b"") for m in expected)
    assert any("links left out: 1 (link)" in note for note in result["notes"])
    assert any("6 of 18 files are not coded by the model" in note for note in result["notes"])


@pytest.mark.parametrize("store", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_folder_of_texts_comes_back_byte_for_byte(
    runs: dict[str, Path], tmp_path: Path, store: bool
) -> None:
    source = tmp_path / "texts"
    (source / "a" / "b").mkdir(parents=True)
    contents = {
        "a/plain.txt": b"a cat\nthe dog\n",
        "a/b/open.txt": b"no last line end",
        "bom.txt": b"\xef\xbb\xbfa cat\r\nthe dog\r\n",
        "blank.txt": b"\n\n",
        "long.log": b"a cat " * 40,
        "latin.txt": "Z\xfcrich".encode("latin-1"),
        "empty.txt": b"",
        "zero.bin": b"\0\n\0",
    }
    for name, content in contents.items():
        (source / name).write_bytes(content)
    result = packed(runs["text"], source, tmp_path / "bits", store=store, tile=8)
    out = unpacked(runs["text"], tmp_path / "bits", tmp_path / "out")
    assert read_tree(out) == read_tree(source)
    assert (result["bytes_exact"], result["coded_files"]) == (8, 0 if store else 6)
    assert store or result["stored_blocks"] == 0


@pytest.mark.parametrize("store", [True, False])
def test_an_empty_text_comes_back_alone(runs: dict[str, Path], tmp_path: Path, store: bool) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    result = packed(runs["text"], tmp_path / "empty.txt", tmp_path / "bits", store=store)
    assert (result["count"], result["bytes_in"], result["share"]) == (0, 0, None)
    assert result["bytes_out"] <= 64
    assert unpacked(runs["text"], tmp_path / "bits", tmp_path / "b.txt").read_bytes() == b""


def test_the_images_of_a_folder_go_to_an_array(runs: dict[str, Path], tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    packed(runs["images"], source, tmp_path / "bits")
    array = np.load(unpacked(runs["images"], tmp_path / "bits", tmp_path / "a.npy"))
    names = sorted(path for path in source.rglob("*.png") if path.parent != source)
    assert np.array_equal(array[:, 0], [np.asarray(Image.open(path)) for path in names])


def test_a_folder_without_a_file_of_the_model_is_stored(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "notes.bin").write_bytes(bytes(range(256)))
    result = packed(runs["images"], source, tmp_path / "bits", ideal_samples=2)
    assert result["coded_files"] == 0
    assert result["model_bytes"] is None
    assert result["fingerprint"] is None
    out = unpacked(runs["images"], tmp_path / "bits", tmp_path / "out")
    assert read_tree(out) == read_tree(source)


def test_folders_that_cannot_be_coded_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is empty; give a folder that holds files"):
        packed(runs["images"], tmp_path / "empty", tmp_path / "bits")
    source = photos(tmp_path / "photos")
    with pytest.raises(InputError, match="a table model, which codes one file"):
        packed(runs["table"], source, tmp_path / "bits")
    before = read_tree(source)
    with pytest.raises(InputError, match="would become a part of the input"):
        packed(runs["images"], source, source / "bits")
    packed(runs["images"], source, tmp_path / "bits")
    for out in (source, tmp_path):
        with pytest.raises(InputError, match="it holds other files"):
            unpacked(runs["images"], tmp_path / "bits", out)
    assert read_tree(source) == before


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt"])
def test_a_hostile_file_writes_nothing(runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    columns = {"names": [name], "modes": [420], "times": [0], "sizes": [1], "rows": [0]}
    text = json.dumps({**columns, "facts": []}).encode()
    stored = len(text).to_bytes(8, "little") + text + b"x"
    (tmp_path / "bits").write_bytes(pack_archive(Archive({"folder": 1}, stored)))
    with pytest.raises(InputError, match="leads out of the new folder"):
        unpacked(runs["images"], tmp_path / "bits", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bits"]


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": [2]},
        {"sizes": ["1"]},
        {"rows": [1]},
        {"names": []},
        {"times": ["a"]},
        {"facts": 3},
        {"times": [2**60]},
        {"modes": ["x"]},
        # the second file would end where the first began
        {"names": ["a", "b"], "sizes": [3, -2], "modes": [0, 0], "times": [0, 0], "rows": [0, 0]},
    ],
    ids=str,
)
def test_a_damaged_list_of_files_is_refused(runs: dict[str, Path], change: dict[str, Any]) -> None:
    columns = {"names": ["a"], "modes": [420], "times": [0], "sizes": [1], "rows": [0]}
    text = json.dumps({**columns, "facts": [], **change}).encode()
    stored = len(text).to_bytes(8, "little") + text + b"x"
    codec = open_codec(runs["images"])
    with pytest.raises(InputError, match="the file is damaged or cut short"):
        restore_folder(codec, Archive({"folder": 1}, stored), codec.join_rows([]))


@pytest.mark.parametrize(
    "facts",
    [
        {"dtype": "|u1", "shape": [2, 8, 8]},
        {"dtype": "O", "shape": [1]},
        {"dtype": "|u1"},
        {"dtype": "|u1", "shape": [1, 8, 8], "levels": "x"},
        {"dtype": "|u1", "shape": [1, 8, 8], "levels": 16, "notes": [1]},
        {"dtype": 3, "shape": [64]},
    ],
    ids=str,
)
def test_a_damaged_array_is_refused(
    runs: dict[str, Path], tmp_path: Path, facts: dict[str, Any], unchecked: None
) -> None:
    (tmp_path / "bits").write_bytes(pack_archive(Archive(facts, bytes(64))))
    with pytest.raises(InputError, match="the file is damaged or cut short"):
        unpacked(runs["images"], tmp_path / "bits", tmp_path / "a.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["bits"]


# No file is longer than xz and 64 bytes.


def sources(folder: Path) -> dict[str, list[Path]]:
    draw = np.random.default_rng(0)
    texts = {
        "tiny.txt": b"a",
        "line.txt": b"a cat\n",
        "random.txt": "".join(map(chr, draw.integers(161, 0x2FFF, 900))).encode(),
        "chinese.txt": "一只猫坐在垫子上\n".encode() * 30,
        "repeated.txt": b"the dog\n" * 200,
    }
    files: dict[str, list[Path]] = {"text": [], "images": [], "table": []}
    for name, content in texts.items():
        (folder / name).write_bytes(content)
        files["text"].append(folder / name)
    arrays = {
        "one": IMAGES[:1],
        "all": IMAGES.astype(np.float64),
        "noise": draw.integers(0, 16, (30, 8, 8)).astype(np.int32),
        "zero": np.zeros((40, 8, 8, 1), np.uint8),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        files["images"].append(folder / f"{name}.npy")
    files["images"].append(photos(folder / "photos"))
    np.save(folder / "table.npy", draw.integers(0, 6, (1, 5)).astype(np.int64))
    files["table"].append(folder / "table.npy")
    return files


@pytest.mark.slow
def test_no_file_is_longer_than_xz_and_64_bytes(runs: dict[str, Path], tmp_path: Path) -> None:
    for name, files in sources(tmp_path).items():
        for source in files:
            out = tmp_path / "bits"
            result = packed(runs[name], source, out, overwrite=True, verify=False)
            size = out.stat().st_size
            xz = tar_xz(source) if source.is_dir() else None
            xz = xz or len(lzma.compress(source.read_bytes(), preset=XZ))
            assert size <= xz + 64, source
            assert size <= result["archivers"]["xz"] + 64, source
            assert size == result["bytes_out"]
            assert result["bytes_in"] == read_size(source)
            back = unpacked(runs[name], out, tmp_path / f"{source.stem}-back{source.suffix}")
            if source.suffix == ".npy":
                array = np.load(source)
                again = np.load(back)
                assert (again.dtype, again.shape) == (array.dtype, array.shape)
                assert np.array_equal(again, array)
            elif source.suffix == ".txt":
                assert back.read_bytes() == source.read_bytes()


def read_size(source: Path) -> int:
    return read_tree(source).size if source.is_dir() else source.stat().st_size


def test_a_file_without_the_model_is_refused_by_a_run_of_another_kind(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    np.save(tmp_path / "a.npy", IMAGES[:1])
    packed(runs["text"], tmp_path / "a.txt", tmp_path / "text.bits")
    packed(runs["images"], tmp_path / "a.npy", tmp_path / "image.bits")
    with pytest.raises(InputError, match="the file holds no array"):
        unpacked(runs["images"], tmp_path / "text.bits", tmp_path / "b.npy")
    with pytest.raises(InputError, match="the file holds no text"):
        unpacked(runs["text"], tmp_path / "image.bits", tmp_path / "b.txt")


def test_a_zip_of_images_is_said_to_lose_its_names(runs: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, image in enumerate(IMAGES[:3]):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            archive.writestr(f"{number}.png", buffer.getvalue())
    result = packed(runs["images"], tmp_path / "a.zip", tmp_path / "bits")
    assert "names of its files are not in the compressed file" in result["notes"][-1]
    assert result["bytes_in"] == (tmp_path / "a.zip").stat().st_size
    assert result["bytes_array"] == IMAGES[:3].nbytes


# The summary.


def test_the_summary_names_sizes_stored_blocks_and_the_key(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = photos(tmp_path / "photos")
    packed(runs["images"], source, tmp_path / "bits", store=False)
    lines = capsys.readouterr().err.splitlines()
    size = (tmp_path / "bits").stat().st_size
    assert any(f"bits: {size:,} bytes" in line and "xz: " in line for line in lines)
    assert "12 come back as PNG of the same pixels, 6 come back byte for byte" in lines[-2]
    assert lines[-1].startswith(f"it opens only with the weights of {runs['images']} (fingerprint")
    assert "univae export" in lines[-1]
    np.save(tmp_path / "noise.npy", IMAGES[:1])
    packed(runs["images"], tmp_path / "noise.npy", tmp_path / "bits", overwrite=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2].endswith("shorter than the model's code: 1 of 1 blocks")
    assert lines[-1] == "no weights are needed to open it: any run of this kind does"


def test_an_input_smaller_than_its_file_is_said_to_be(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    packed(runs["text"], tmp_path / "a.txt", tmp_path / "bits")
    assert ": the input was smaller; xz: " in capsys.readouterr().err


# Standard streams.


def univae(*words: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "experiments.cli", *map(str, words)],
        input=data,
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_a_text_goes_through_two_pipes(runs: dict[str, Path]) -> None:
    content = "a cat\r\nZürich".encode()
    first = univae("compress", runs["text"], "-", "-", "--ideal-samples", 0, data=content)
    assert first.returncode == 0
    result = json.loads(first.stderr.splitlines()[-1])
    assert result["bytes_out"] == len(first.stdout)
    assert result["bytes_in"] == len(content)
    second = univae("decompress", runs["text"], "-", "-", data=first.stdout)
    assert second.stdout == content
    assert json.loads(second.stderr.splitlines()[-1])["bytes_in"] == len(first.stdout)


class Stream:
    """Standard input that holds bytes."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return not self.buffer.getvalue()


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_standard_input_may_hold_arrays(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, IMAGES[:3])
    else:
        np.savez_compressed(buffer, images=IMAGES[:3])
    monkeypatch.setattr(sys, "stdin", Stream(buffer.getvalue()))
    result = packed(runs["images"], "-", tmp_path / "bits")
    assert result["bytes_in"] == len(buffer.getvalue())
    back = unpacked(runs["images"], tmp_path / "bits", tmp_path / "back.npy")
    assert np.array_equal(np.load(back), IMAGES[:3])


def test_bad_standard_input_is_named(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Stream(b""))
    with pytest.raises(InputError, match="standard input is a terminal"):
        packed(runs["text"], "-", tmp_path / "bits")
    with pytest.raises(InputError, match="standard input is a terminal"):
        unpacked(runs["text"], Path("-"), tmp_path / "a.txt")
    monkeypatch.setattr(sys, "stdin", Stream(b"\xff"))
    with pytest.raises(InputError, match=r"^standard input: byte 0 is no UTF-8 text"):
        packed(runs["text"], "-", tmp_path / "bits")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(InputError, match="standard output is a terminal"):
        packed(runs["text"], "python-docs", Path("-"))
    assert list(tmp_path.iterdir()) == []


# A full disk.


def test_a_full_disk_leaves_nothing(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = photos(tmp_path / "photos")
    packed(runs["images"], source, tmp_path / "bits", verify=False)
    write = Path.write_bytes
    written = []

    def limited(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) > 3:
            write(path, content[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", limited)
    with pytest.raises(OSError, match="No space left"):
        unpacked(runs["images"], tmp_path / "bits", tmp_path / "out")
    with pytest.raises(OSError, match="No space left"):
        packed(runs["images"], source, tmp_path / "new.bits", verify=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bits", "photos"]


# Damage.


@pytest.mark.parametrize(
    ("name", "source", "changes"),
    [
        ("text", b"a cat\nthe dog\n", {"notes": {"cut": 3}}),
        pytest.param(
            "text", b"a cat\nthe dog\n", {"notes": {"cut": [[0]]}}, marks=pytest.mark.slow
        ),
        ("images", IMAGES[:2], {"shape": (3, 3)}),
        ("images", IMAGES[:2], {"dtype": "no dtype"}),
        ("images", IMAGES[:2], {"dtype": "O"}),
        ("images", IMAGES[:2], {"dtype": "|S1000000000"}),
    ],
)
def test_a_header_that_does_not_fit_its_rows_is_damaged(
    runs: dict[str, Path], tmp_path: Path, name: str, source: Any, changes: dict[str, Any]
) -> None:
    data = tmp_path / ("a.txt" if name == "text" else "a.npy")
    if name == "text":
        data.write_bytes(source)
    else:
        np.save(data, source)
    bits = tmp_path / "bits"
    packed(runs[name], data, bits, store=False)
    header, payloads = unpack(bits.read_bytes())
    bits.write_bytes(pack(replace(header, **changes), payloads))
    with pytest.raises(InputError, match=r"^decompress: the file is damaged or cut short"):
        unpacked(runs[name], bits, tmp_path / f"b{data.suffix}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [data.name, "bits"]


def test_a_random_change_of_a_file_is_noticed_and_leaves_nothing(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    source = photos(tmp_path / "photos")
    bits = tmp_path / "bits"
    packed(runs["images"], source, bits, store=False)
    content = bits.read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(100):
        broken = bytearray(content)
        broken[draw.integers(len(content))] ^= 1 << draw.integers(8)
        cut = len(content) if draw.random() < 0.7 else draw.integers(len(content))
        bits.write_bytes(broken[:cut])
        with pytest.raises(InputError, match=r"^decompress: [^\n]+$"):
            unpacked(runs["images"], bits, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bits", "photos"]
