"""The codec of text runs, which codes the lines of a file as lists of tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from density.coding.archive import Archive
from density.coding.bits_back import BitsBack
from density.coding.blocks import Account
from density.coding.container import Header
from density.coding.data_code import Coding
from density.coding.exact import fingerprint, prepared
from experiments.data.outputs import Output
from experiments.data.texts import exact_text
from experiments.evaluation.archivers import text_sizes
from experiments.evaluation.file_codec import Content, Part
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
TEXT = "text"  # the fact of an archive that its bytes are UTF-8 text, with its lines
TOKENS = 16_384  # positions decoded at once: bounds the memory
ARRAY_SUFFIXES = (".npy", ".npz", ".png")


class TextCodec:
    """The codec of a text run, for UTF-8 files of one text per line."""

    rate: ClassVar[str] = "bits_per_char"
    batch_size: ClassVar[int] = 16
    exactness: ClassVar[str] = "bytes_exact"

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

    def default_tile(self, count: int, block: int) -> int:
        """Return how many texts are coded together."""
        return TILE

    def new_coding(self, coding: Coding) -> Coding:
        """Return the options of a new file: the same."""
        return coding

    def read(self, source: str, coding: Coding) -> Content[str, list[list[int]]]:
        r"""Read a UTF-8 file, or the built-in corpus.

        Only ``\n`` ends a line; all other characters belong to texts, which may be empty.

        Raises:
            InputError: there is no such file, it is not UTF-8, or the tokenizer cannot restore a
                line exactly.
        """
        text = exact_text(source)
        lines = _lines(text)
        tokens = self.run.tokenizer.encode_batch(lines)
        lossy = self._lossy_line(lines, tokens)
        if lossy is not None:
            raise InputError(
                f"compress: {source}, line {lossy + 1}: the run's tokenizer "
                f"({self.run.tokenizer.kind}) cannot restore it exactly; "
                "use a run trained with --tokenizer bytes, chars or bpe"
            )
        values, notes = self._pieces(text, tokens)
        header = Header(self.fingerprint, coding, torch.__version__, "text", (len(lines),), notes)
        content = text.encode()
        return Content(
            text,
            values,
            header,
            size=len(content),
            stored=Archive({TEXT: len(lines)}, content),
            units=_characters(text),
            archiver_sizes=lambda: text_sizes(content),
        )

    def restore(self, values: list[list[int]], header: Header) -> str:
        """Return the text of a file from its tokens.

        Raises:
            ValueError: it has another number of lines than the header says.
        """
        text = self._text(values, header.notes)
        if (len(_lines(text)),) != header.shape:
            raise ValueError("another number of lines")
        return text

    def restore_stored(self, archive: Archive) -> str:
        """Return a text that is stored without the model."""
        if TEXT not in archive.facts:
            raise InputError(
                f"decompress: the file holds no text, and {self.run.path} is the run of a text "
                "model; give the run that wrote it"
            )
        return archive.stored.decode()

    def equal(self, a: str, b: str) -> bool:
        """Return whether two texts are equal."""
        return a == b

    def check_name(self, out: Path) -> None:
        """Raise :class:`InputError` for the name of an array or a folder."""
        if out.suffix.lower() in ARRAY_SUFFIXES or not out.suffix:
            raise InputError(
                f"decompress: {out}: the file holds text; give a name that ends in .txt"
            )

    def is_file_name(self, out: Path) -> bool:
        """Return that texts of several files go to a folder."""
        return False

    def as_file(self, values: list[list[int]]) -> str:
        """Raise ValueError: the texts of several files are no text."""
        raise ValueError("the texts of a folder have a file each")

    def write(self, exact: str, out: Output) -> None:
        """Write one UTF-8 file."""
        out.write_text(exact)

    def check_folder(self) -> None:
        """Do nothing: every folder may hold texts."""

    def split(self, content: bytes) -> Part | None:
        """Return the tokens of a UTF-8 file that the tokenizer restores; None for other files."""
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            return None
        lines = _lines(text)
        tokens = self.run.tokenizer.encode_batch(lines)
        if not text or self._lossy_line(lines, tokens) is not None:
            return None
        values, notes = self._pieces(text, tokens)
        return Part(values, facts=notes)

    def join(self, part: Part) -> bytes:
        """Return the bytes of a text."""
        return self._text(part.rows, part.facts).encode()

    def join_rows(self, parts: Sequence[list[list[int]]]) -> list[list[int]]:
        """Return the texts of several files in one list."""
        return [ids for texts in parts for ids in texts]

    def count_units(self, part: Part) -> int:
        """Return the number of characters without line ends."""
        return _characters(self._text(part.rows, part.facts))

    def net_rate(self, account: Account) -> JsonObject:
        """Return the net bits per text."""
        texts = account.count - account.plain
        return {"net_bits_per_text": account.net_bits / texts if texts else None}

    def ideal_rate(self, bits: float, values: list[list[int]]) -> JsonObject:
        """Return no rate: a result has the ideal bits of all texts only."""
        return {}

    def batch(self, values: list[list[int]]) -> tuple[Tensor, int | None]:
        """Return padded ids, and how many latents to decode at once."""
        ids = pad(values)
        return ids, max(1, TOKENS // ids.numel())

    def _lossy_line(self, lines: Sequence[str], tokens: Sequence[Sequence[int]]) -> int | None:
        """Return the index of the first line that its tokens do not restore, if there is one."""
        for index, (line, ids) in enumerate(zip(lines, tokens, strict=True)):
            if self.run.tokenizer.decode(ids) != line:
                return index
        return None

    def _pieces(self, text: str, tokens: Sequence[list[int]]) -> tuple[list[list[int]], JsonObject]:
        """Return the tokens in pieces that the model takes, and what else restores the text."""
        values, cut = pieces(tokens, self.model.config.max_length)
        notes: JsonObject = {}
        if not text.endswith("\n"):
            notes["open"] = 1
        if cut:
            notes["cut"] = cut
        return values, notes

    def _text(self, values: list[list[int]], notes: JsonObject) -> str:
        """Return the text of :meth:`_pieces`."""
        cut = [(text, count) for text, count in notes.get("cut", [])]
        lines = [self.run.tokenizer.decode(ids) for ids in join_pieces(values, cut)]
        return "\n".join(lines) + ("" if notes.get("open") else "\n")


def _lines(text: str) -> list[str]:
    r"""Return the texts between ``\n``; none follows the last one of a file that ends with it."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _characters(text: str) -> int:
    """Return the number of characters without line ends."""
    return len(text) - text.count("\n")
