"""Files of ``univae compress``: their bytes, and headers whose checksums are right.

A header is written from a recipe, a file of JSON with its fields, so that mutations of the recipe
give files that contradict themselves behind checksums that match.
"""

import json
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from density.coding.archive import Archive, pack_archive, unpack_archive
from density.coding.blocks import encode
from density.coding.container import unpack
from density.coding.data_code import Coding
from density.coding.exact import exactly
from density.coding.fields import MAGIC, checksum_field, number_field, text_field
from density.coding.stored import squeeze
from experiments.data.trees import write_tree
from experiments.evaluation.compressed_file import Opened
from experiments.evaluation.file_codec import DAMAGE, AnyFileCodec
from experiments.evaluation.folder_content import read_folder
from experiments.kinds import open_codec
from tests.fuzz.target import Target
from univae.errors import InputError

GOLDEN = Path(__file__).parents[2] / "golden"
RUNS = {
    "text": "texts.txt",
    "images": "images.npy",
    "table": "table.npy",
    "neighbours": "images.npy",
}
ROWS = 6  # of a text or an array
LARGEST = 2**70  # of a number in a recipe: more digits than a reader takes


@cache
def codec(run: str) -> AnyFileCodec:
    """Return the codec of a golden run."""
    return open_codec(GOLDEN / run / "run")


def beginning(run: str, folder: Path) -> Path:
    """Write the first rows of the data of a golden run into a folder."""
    source = GOLDEN / "data" / RUNS[run]
    out = folder / source.name
    if source.suffix == ".npy":
        np.save(out, np.load(source)[:ROWS])
    else:
        out.write_bytes(b"".join(source.read_bytes().splitlines(keepends=True)[:ROWS]))
    return out


def packed(run: str, source: Path) -> bytes:
    """Return the file of a text or an array."""
    content = codec(run).read(str(source), codec(run).new_coding(Coding(tile=2)))
    with exactly():
        return encode(codec(run).coder(content.header), content.values, content.header, block=4)[0]


def packed_folder(folder: Path) -> bytes:
    """Return the file of a folder with a text, another file and an empty folder."""
    (folder / "tree" / "empty").mkdir(parents=True)
    (folder / "tree" / "a.txt").write_text("a cat\nthe dog\n")
    (folder / "tree" / "b.bin").write_bytes(bytes(range(256)))
    content = read_folder(codec("text"), folder / "tree", Coding())
    with exactly():
        rows = encode(codec("text").coder(content.header), content.values, content.header)[0]
    assert content.beside is not None
    return pack_archive(Archive(content.beside.facts, content.beside.stored, rows))


def make_files(folder: Path) -> Sequence[Path]:
    """Write compressed files of texts, arrays and a folder, and one stored without a model."""
    paths = []
    for run in RUNS:
        source = beginning(run, folder)
        paths.append(folder / f"{run}.bits")
        paths[-1].write_bytes(packed(run, source))
        paths.append(folder / f"{run}.stored.bits")
        paths[-1].write_bytes(pack_archive(codec(run).read(str(source), Coding()).stored))
    paths.append(folder / "text.folder.bits")
    paths[-1].write_bytes(packed_folder(folder))
    return paths


def read_file(path: Path) -> None:
    """Decompress a file with the run that its name begins with."""
    restore(path.read_bytes(), path.name.partition(".")[0])


def restore(content: bytes, run: str) -> None:
    """Return nothing: decode a file, and write its members where it holds a folder."""
    opened = Opened(content)
    if opened.header:
        opened.header.check(codec(run).fingerprint)
    with exactly():
        values = opened.values(codec(run), lambda count: None)
    restored = opened.content(codec(run), values)
    assert isinstance(opened.count, int)
    json.dumps(opened.facts)
    if opened.is_folder:
        with tempfile.TemporaryDirectory() as folder:
            write_tree(restored, Path(folder))


def make_recipes(folder: Path) -> Sequence[Path]:
    """Write the recipes of the files of :func:`make_files`."""
    paths = []
    for file in make_files(folder):
        content = file.read_bytes()
        recipe = archive_recipe(content) if content[4] == 3 else header_recipe(content)
        paths.append(file.with_suffix(".json"))
        paths[-1].write_text(json.dumps(recipe))
        file.unlink()
    return paths


def header_recipe(content: bytes) -> dict[str, Any]:
    """Return the fields of a file of rows."""
    header, payloads = unpack(content)
    coding = header.coding
    blocks = []
    for block, payload in zip(header.blocks, payloads, strict=True):
        fields = {"stored": int(block.is_stored), "count": block.count, "plain": block.plain}
        sums = {"longer": 0, "sum_data": block.sum_data, "payload": payload.hex()}
        blocks.append({**fields, **sums})
    return {
        "version": 2 if any(block.is_stored for block in header.blocks) else 1,
        "fingerprint": header.fingerprint.hex(),
        "coding": [1 + coding.waves, coding.particles, coding.tile, int(coding.swap)],
        "torch": header.torch,
        "dtype": header.dtype,
        "shape": list(header.shape),
        "notes": header.notes,
        "blocks": blocks,
    }


def archive_recipe(content: bytes) -> dict[str, Any]:
    """Return the fields of an archive; members and rows by their own fields."""
    archive = unpack_archive(content)
    recipe: dict[str, Any] = {"facts": archive.facts, "longer": 0}
    if "folder" in archive.facts:
        end = 8 + int.from_bytes(archive.stored[:8], "little")
        recipe["columns"] = json.loads(archive.stored[8:end])
        recipe["stored"] = archive.stored[end:].hex()
    else:
        recipe["stored"] = archive.stored.hex()
    recipe["rows"] = header_recipe(archive.rows) if archive.rows else None
    return recipe


def read_recipe(path: Path) -> None:
    """Write a file by a recipe, and decompress it."""
    try:
        recipe = json.loads(path.read_bytes())
        content = by_recipe(recipe)
    except DAMAGE as error:
        raise InputError("no recipe") from error
    restore(content, path.name.partition(".")[0])


def by_recipe(recipe: Mapping[str, Any]) -> bytes:
    """Return the file of a recipe, with checksums that are right."""
    return archive_of(recipe) if "facts" in recipe else rows_of(recipe)


def rows_of(recipe: Mapping[str, Any]) -> bytes:
    """Return a file of rows."""
    version = recipe["version"]
    fields = [MAGIC, bytes([version]), bytes.fromhex(recipe["fingerprint"])]
    fields += [number(value) for value in recipe["coding"]]
    fields += [text_field(recipe["torch"]), text_field(str(recipe["dtype"]))]
    fields += [number(len(recipe["shape"])), *map(number, recipe["shape"])]
    fields += [text_field(json.dumps(recipe["notes"])), number(len(recipe["blocks"]))]
    payloads = []
    for block in recipe["blocks"]:
        payload = bytes.fromhex(block["payload"])
        fields += [number(block["stored"])] if version == 2 else []
        fields += [number(block["count"]), number(block["plain"])]
        fields += [number(len(payload) + block["longer"])]
        fields += [checksum_field(zlib.crc32(payload)), checksum_field(block["sum_data"])]
        payloads.append(payload)
    return sealed(fields) + b"".join(payloads)


def archive_of(recipe: Mapping[str, Any]) -> bytes:
    """Return an archive."""
    stored = bytes.fromhex(recipe["stored"])
    if "columns" in recipe:
        columns = json.dumps(recipe["columns"]).encode()
        stored = len(columns).to_bytes(8, "little") + columns + stored
    rows = rows_of(recipe["rows"]) if recipe["rows"] else b""
    stream = squeeze(stored)
    fields = [MAGIC, bytes([3]), text_field(json.dumps(recipe["facts"]))]
    fields += [number(len(stored) + recipe["longer"]), number(len(stream))]
    fields += [checksum_field(zlib.crc32(stream)), number(len(rows))]
    return sealed(fields) + stream + rows


def sealed(fields: Sequence[bytes]) -> bytes:
    """Return the fields of a header with their checksum."""
    head = b"".join(fields)
    return head + checksum_field(zlib.crc32(head))


def number(value: Any) -> bytes:
    """Return a whole number as a field."""
    return number_field(min(abs(int(value)), LARGEST))


TARGETS: list[Target] = [
    Target("compressed", make_files, read_file),
    Target("compressed-headers", make_recipes, read_recipe),
]
