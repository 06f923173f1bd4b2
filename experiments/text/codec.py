"""The codec of text runs: lines in files, lists of tokens in the coder."""

from pathlib import Path
from typing import Any

import torch

from density.coding.bits_back import BitsBack
from density.coding.compress import fingerprint, prepared
from density.coding.container import Header
from density.coding.data_code import Coding
from experiments.data.outputs import Output
from experiments.data.texts import exact_text
from experiments.evaluation.file_codec import CodecInput
from experiments.text.code import TextCode, join_pieces, pieces
from experiments.text.run import TextRun
from univae.errors import InputError

__all__ = ["Texts"]


class Texts:
    """The codec of a text run; it takes UTF-8 files, whose lines are its data."""

    def __init__(self, path: Path) -> None:
        self.opened = TextRun(path, "cpu")
        tokenizer = self.opened.tokenizer.to_json()
        self.model, self.fingerprint = (
            prepared(self.opened.model),
            fingerprint(self.opened.model, tokenizer),
        )

    def coder(self, header: Header) -> BitsBack:
        return BitsBack(self.model, TextCode(self.model, header.coding.tile), header.coding)

    def read(self, source: str, coding: Coding) -> CodecInput:
        r"""Lines end at ``\n`` alone.

        Every other character, also of an empty line, belongs to a text.
        """
        text = exact_text(source)
        lines = text.split("\n")
        closed = lines[-1] == ""
        lines = lines[:-1] if closed else lines
        tokens = self.opened.tokenizer.encode_batch(lines)
        for number, (line, ids) in enumerate(zip(lines, tokens, strict=True), start=1):
            if self.opened.tokenizer.decode(ids) != line:
                raise InputError(
                    f"compress: {source}, line {number}: the run's tokenizer ({self.opened.tokenizer.kind}) cannot "
                    "write it back exactly; use a run trained with --tokenizer bytes, chars or bpe"
                )
        values, cut = pieces(tokens, self.model.config.max_length)
        notes: dict[str, Any] = ({} if closed else {"open": 1}) | ({"cut": cut} if cut else {})
        header = Header(self.fingerprint, coding, torch.__version__, "text", (len(lines),), notes)
        return CodecInput(text, values, header, len(text.encode()))

    def restore(self, values: list[list[int]], header: Header) -> str:
        tokens = join_pieces(values, header.notes.get("cut", []))
        lines = [self.opened.tokenizer.decode(ids) for ids in tokens]
        return "\n".join(lines) + ("" if header.notes.get("open") else "\n")

    def check_name(self, out: Path) -> None:
        if out.suffix.lower() in (".npy", ".npz", ".png") or not out.suffix:
            raise InputError(
                f"decompress: {out}: the file holds text; give a name that ends in .txt"
            )

    def write(self, exact: str, out: Output) -> None:
        """One UTF-8 file."""
        out.write_text(exact)
