"""The codec of text runs, which codes the lines of a file as lists of tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from density.coding.bits_back import BitsBack
from density.coding.blocks import Account
from density.coding.container import Header
from density.coding.data_code import Coding
from density.coding.exact import fingerprint, prepared
from experiments.data.outputs import Output
from experiments.data.texts import exact_text
from experiments.evaluation.archivers import text_sizes
from experiments.evaluation.file_codec import Content
from experiments.evaluation.open_run import open_run
from experiments.text.code import TextCode, join_pieces, pieces
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.run_folder import BEST
from univae.text.tokenizers import pad
from univae.vae.model import UniVAE
from univae.vae.trained import TrainedText

__all__ = ["TextCodec"]

TILE = 16  # texts coded together by default
TOKENS = 16_384  # positions decoded at once: bounds the memory
ARRAY_SUFFIXES = (".npy", ".npz", ".png")


class TextCodec:
    """The codec of a text run, for UTF-8 files of one text per line."""

    rate: ClassVar[str] = "bits_per_char"
    batch_size: ClassVar[int] = 16

    def __init__(self, path: Path, checkpoint: str = BEST) -> None:
        self.run = open_run(TrainedText, path, "cpu", checkpoint)
        self.model = prepared(self.run.model)
        self.fingerprint = fingerprint(self.run.model, self.run.tokenizer.to_json())

    @property
    def scored_model(self) -> UniVAE:
        """The model as it was trained."""
        return self.run.model

    @property
    def run_notes(self) -> Sequence[str]:
        """The assumptions made when the run was opened."""
        return self.run.notes

    def coder(self, header: Header) -> BitsBack[list[list[int]]]:
        """Return the coder of a file's tokens."""
        return BitsBack(self.model, TextCode(self.model, header.coding.tile), header.coding)

    def default_tile(self, count: int) -> int:
        """Return how many texts are coded together."""
        return TILE

    def read(self, source: str, coding: Coding) -> Content[str, list[list[int]]]:
        r"""Read a UTF-8 file, or the built-in corpus.

        Only ``\n`` ends a line; all other characters belong to texts, which may be empty.

        Raises:
            InputError: there is no such file, it is empty or not UTF-8, or the tokenizer cannot
                restore a line exactly.
        """
        text = exact_text(source)
        lines = text.split("\n")
        ends_with_newline = not lines[-1]
        if ends_with_newline:
            lines.pop()
        tokens = self.run.tokenizer.encode_batch(lines)
        self._require_exact(source, lines, tokens)
        values, cut = pieces(tokens, self.model.config.max_length)

        notes: JsonObject = {}  # needed to restore the file, besides the tokens
        if not ends_with_newline:
            notes["open"] = 1
        if cut:
            notes["cut"] = cut
        header = Header(self.fingerprint, coding, torch.__version__, "text", (len(lines),), notes)
        return Content(text, values, header, len(text.encode()))

    def restore(self, values: list[list[int]], header: Header) -> str:
        """Return the text of a file from its tokens."""
        cut = [(text, count) for text, count in header.notes.get("cut", [])]
        tokens = join_pieces(values, cut)
        lines = [self.run.tokenizer.decode(ids) for ids in tokens]
        return "\n".join(lines) + ("" if header.notes.get("open") else "\n")

    def equal(self, a: str, b: str) -> bool:
        """Return whether two texts are equal."""
        return a == b

    def check_name(self, out: Path) -> None:
        """Raise :class:`InputError` for the name of an array or a folder."""
        if out.suffix.lower() in ARRAY_SUFFIXES or not out.suffix:
            raise InputError(
                f"decompress: {out}: the file holds text; give a name that ends in .txt"
            )

    def write(self, exact: str, out: Output) -> None:
        """Write one UTF-8 file."""
        out.write_text(exact)

    def count_units(self, content: Content[str, list[list[int]]]) -> int:
        """Return the number of characters without line ends."""
        return sum(map(len, content.exact.split("\n")))

    def net_rate(self, account: Account) -> JsonObject:
        """Return the net bits per text."""
        texts = account.count - account.plain
        return {"net_bits_per_text": account.net_bits / texts if texts else None}

    def archiver_sizes(self, content: Content[str, list[list[int]]]) -> dict[str, int]:
        """Return the sizes in general formats, in bytes."""
        return text_sizes(content.exact.encode())

    def ideal_rate(self, bits: float, content: Content[str, list[list[int]]]) -> JsonObject:
        """Return no rate: a result has the ideal bits of all texts only."""
        return {}

    def batch(self, values: list[list[int]]) -> tuple[Tensor, int | None]:
        """Return padded ids, and how many latents to decode at once."""
        ids = pad(values)
        return ids, max(1, TOKENS // ids.numel())

    def _require_exact(
        self, source: str, lines: Sequence[str], tokens: Sequence[Sequence[int]]
    ) -> None:
        tokenizer = self.run.tokenizer
        for number, (line, ids) in enumerate(zip(lines, tokens, strict=True), start=1):
            if tokenizer.decode(ids) != line:
                raise InputError(
                    f"compress: {source}, line {number}: the run's tokenizer ({tokenizer.kind}) "
                    "cannot restore it exactly; "
                    "use a run trained with --tokenizer bytes, chars or bpe"
                )
