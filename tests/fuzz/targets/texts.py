"""Texts: files of lines, of columns and of JSON, plain and compressed; whole files; tokenizers."""

import bz2
import gzip
import json
import lzma
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from experiments.data.texts import exact_text, read_texts
from tests.fuzz.target import Target
from univae.checkpoint import read_json
from univae.text.corpus import Corpus
from univae.text.tokenizers import TOKENIZERS, tokenizer_from_json, train_tokenizer

LINES = ["a cat sat on the mat", "zwei Hunde, ein Ball", "三只猫", "a  dog “ran”", "é à"] * 3
ROWS = [{"id": i, "text": text, "label": i % 2} for i, text in enumerate(LINES)]


def make(folder: Path) -> Sequence[Path]:
    plain = "".join(f"{line}\n" for line in LINES).encode()
    table = ["id,text,label", *(f'{r["id"]},"{r["text"]}",{r["label"]}' for r in ROWS)]
    contents = {
        "lines.txt": plain,
        "bom.txt": b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n"),
        "lines.txt.gz": gzip.compress(plain, mtime=0),
        "lines.txt.bz2": bz2.compress(plain),
        "lines.txt.xz": lzma.compress(plain),
        "table.csv": "\n".join(table).encode(),
        "table.tsv": "\n".join(f"{r['id']}\t{r['text']}" for r in ROWS).encode(),
        "rows.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
        "rows.jsonl.gz": gzip.compress("\n".join(map(json.dumps, ROWS)).encode(), mtime=0),
        "rows.json": json.dumps(ROWS).encode(),
        "texts.json": json.dumps(LINES).encode(),
        "table.csv.gz": gzip.compress("\n".join(table).encode(), mtime=0),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "folder" / "part.txt").write_bytes(plain)
    return [*(folder / name for name in contents), folder / "folder" / "part.txt"]


def read(path: Path) -> None:
    source = path.parent if path.parent.name == "folder" else path
    read_texts(str(source))


def make_whole(folder: Path) -> Sequence[Path]:
    path = folder / "whole.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return [path]


def read_whole(path: Path) -> None:
    exact_text(str(path))


def read_tokens(path: Path) -> None:
    """Train a tokenizer on a file of lines, and write the corpus of its token ids."""
    texts = read_texts(str(path)).texts
    kinds = list(TOKENIZERS)
    tokenizer = train_tokenizer(kinds[len(texts) % len(kinds)], texts, 300)
    folder = Path(tempfile.mkdtemp(dir=path.parent))
    try:
        Corpus.build(texts, tokenizer, folder, max_length=200)
    finally:
        shutil.rmtree(folder)


def make_tokenizers(folder: Path) -> Sequence[Path]:
    paths = []
    for kind in TOKENIZERS:
        path = folder / f"{kind}.json"
        path.write_text(json.dumps(train_tokenizer(kind, LINES, 300).to_json()))
        paths.append(path)
    return paths


def read_tokenizer(path: Path) -> None:
    tokenizer = tokenizer_from_json(read_json(path))
    for text in LINES:
        tokenizer.decode(tokenizer.encode(text))


TARGETS: list[Target] = [
    Target("texts", make, read),
    Target("whole-texts", make_whole, read_whole),
    Target("tokens", make_whole, read_tokens),
    Target("tokenizers", make_tokenizers, read_tokenizer),
]
