"""Inputs that once were neither read nor refused, each by the file that shows it."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.cli.commands import run
from experiments.data.pairs import read_groups
from experiments.data.readers import read
from experiments.data.standard_streams import source_file
from experiments.data.table_files import TableFile
from experiments.data.texts import read_texts
from univae.errors import InputError
from univae.text import bpe
from univae.text.tokenizers import train_tokenizer


def pairs(path: Path) -> object:
    return read_groups(path)


def texts(path: Path) -> object:
    return read_texts(str(path))


def stored_zip(name: str, method: int) -> bytes:
    """Return a .zip whose entry says that it is compressed by another method."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, b"content")
    content = bytearray(out.getvalue())
    central = content.index(b"PK\1\2")
    content[8:10] = content[central + 10 : central + 12] = method.to_bytes(2, "little")
    return bytes(content)


def header_of(dtype: str, count: int) -> bytes:
    """Return the header of an .npy."""
    out = io.BytesIO()
    content = {"descr": dtype, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(out, content)
    return out.getvalue()


def lines_of(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


DEEP = b"[" * 100_000 + b"]" * 100_000

# What it is: the file's name, its content, what reads it, and words of the refusal.
FINDINGS: dict[str, tuple[str, bytes, Callable[[Path], object], str]] = {
    "a header that names more columns than the rows have": (
        "x.csv", b"s1;s2;sc\na cat\tone cat\na dog\tdogs\n", pairs, "holds no value",
    ),
    "an .npy whose header is said to have gigabytes": (
        "x.npy", b"\x93NUMPY\2\0\xff\xff\xff\x7f{}", read, "has a header of 2147483647 bytes",
    ),
    "an .npy whose header is no Python literal": (
        "x.npy", b"\x93NUMPY\1\0\x08\0{'a': ((", read, "cannot be read",
    ),
    "an .npy of 10**12 empty strings": ("x.npy", header_of("<U0", 10**12), read, "holds empty strings"),
    "an .npy of a negative length": ("x.npy", header_of("<f8", -1), read, "its shape is"),
    "an .npz that is an .npy": ("x.npz", b"\x93NUMPY\1\0\x02\0{}", read, "not a zip file"),
    "an .npz of a compression that Python lacks": (
        "x.npz", stored_zip("x.npy", 1), read, "compression",
    ),
    "an IDX of three bytes": ("x", b"\0\0\x08", read, "neither an image set nor IDX"),
    "labels that are lists": (
        "x.jsonl", lines_of(["a", "b", [1]], ["c", "d", [2]]), pairs, "holds no other lists",
    ),
    "labels of hundreds of digits": (
        "x.jsonl", lines_of(["a", "b", 10**400], ["c", "d", 1]), pairs, "no texts",
    ),
    "lists nested 100,000 deep": ("x.jsonl", DEEP, pairs, "nested too deep"),
    "half of a surrogate pair": ("x.jsonl", lines_of(["a", "\ud800"]), pairs, "surrogate"),
    "a NUL byte": ("x.txt", b"a\nb\0c\n", texts, "line 2, byte 3: a NUL byte"),
    "twenty thousand columns": (
        "x.csv", b",".join(b"c%d" % i for i in range(20_000)) + b"\n" + b"1," * 19_999 + b"2\n",
        TableFile().read, "at most 16,384 columns",
    ),
    "Parquet of noise": ("x.parquet", b"PAR1" + bytes(100) + b"PAR1", read, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", FINDINGS)
def test_what_once_was_neither_read_nor_refused_is_refused(what: str, tmp_path: Path) -> None:
    name, content, reader, words = FINDINGS[what]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        reader(path)
    assert list(tmp_path.iterdir()) == [path]


def test_standard_input_of_an_unknown_compression_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = stored_zip("x.npy", 99).replace(b"x.npy", b"\xff.npy")
    stream = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False)
    monkeypatch.setattr("sys.stdin", stream)
    with pytest.raises(InputError, match="standard input"), source_file("-") as source:
        read(source)


def test_a_word_of_twenty_pieces_is_encoded_in_pieces_and_decodes_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = train_tokenizer("bpe", ["a small cat's hat"] * 9, 300)
    draw = np.random.default_rng(0)
    words = np.array(["a", "cat's", "hat", "é", "  ", "\n", "x1", "--"])
    long = " ".join(draw.choice(words, 400).tolist())
    whole = tokenizer.encode(long)
    monkeypatch.setattr(bpe, "PIECE", 200)
    assert tokenizer.encode(long) == whole
    assert tokenizer.exact("abc1" * 1000)
    assert all(len(piece) <= 200 for piece in bpe.pieces(long, 200))
    assert "".join(bpe.pieces(long, 200)) == long


@dataclass(frozen=True)
class NoOptions:
    """A command without options."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_is_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def action(config: object) -> dict[str, object]:
        raise error

    with pytest.raises(SystemExit) as end:
        run(NoOptions, action, [], "univae train-text")
    assert end.value.code == 2
    assert "not enough memory" in capsys.readouterr().err
