"""The files of a corpus, written batch by batch and completed by a rename.

``ids.bin``: the texts' tokens, one END after each text. ``offsets.npy``: where texts start, and
where the last one stops. ``corpus.json``: totals and fingerprints, renamed last, so that a folder
without it is unfinished.
"""

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from univae.checkpoint import JsonObject, sync
from univae.disk_errors import naming
from univae.errors import InputError
from univae.text.fingerprint import Batch

__all__ = ["IDS", "OFFSETS", "STATE", "TOTALS", "CorpusWriter", "Encoder"]

IDS = "ids.bin"
OFFSETS = "offsets.npy"
STATE = "corpus.json"

TOTALS = ("texts", "dropped", "tokens", "characters", "words", "bytes", "unknown_words")

# largest vocabulary whose ids fit into 16 bits
SHORT_VOCABULARY = 2**16

OFFSET_BYTES = 8


@runtime_checkable
class Encoder(Protocol):
    """A tokenizer for a corpus: tokens without END, two ids, and a state for a fingerprint."""

    vocab_size: int
    pad: int
    end: int

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of every text, without END."""
        ...

    def unknown(self, text: str) -> int:
        """Return the number of words that the vocabulary cannot represent."""
        ...

    def to_json(self) -> JsonObject:
        """Return everything on which the tokens of a text depend."""
        ...


class CorpusWriter:
    """Writes batches of texts to temporary files, which :meth:`finish` renames."""

    def __init__(self, folder: Path, tokenizer: Encoder, max_length: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.dtype = np.dtype("<u2" if tokenizer.vocab_size <= SHORT_VOCABULARY else "<u4")
        self.totals = dict.fromkeys(TOTALS, 0)
        self.ids = folder / f"{IDS}.partial"
        self.ends = folder / "ends.partial"
        self.ids.write_bytes(b"")
        self.ends.write_bytes(bytes(OFFSET_BYTES))  # offset 0 of the first text

    def add(self, batch: Batch) -> None:
        """Append the texts of at most ``max_length`` tokens, END included; count the others."""
        sequences = self.tokenizer.encode_batch(batch.texts)
        rows = [i for i, ids in enumerate(sequences) if len(ids) < self.max_length]
        self._append([sequences[i] for i in rows])

        texts = [batch.texts[i] for i in rows]
        self.totals["texts"] += len(rows)
        self.totals["dropped"] += len(batch.texts) - len(rows)
        self.totals["characters"] += sum(map(len, texts))
        self.totals["words"] += sum(len(text.split()) for text in texts)
        self.totals["bytes"] += sum(batch.sizes[i] for i in rows)
        self.totals["unknown_words"] += sum(map(self.tokenizer.unknown, texts))

    def finish(self, recipe: JsonObject) -> None:
        """Write the offsets and ``corpus.json``, and rename all files to their final names.

        Raises:
            InputError: no text was short enough.
        """
        if not self.totals["texts"]:
            rule = f"needs a text of at most max_length={self.max_length} tokens"
            raise InputError(
                f"corpus {self.folder}: {rule}; got {self.totals['dropped']} longer ones; "
                "raise max_length"
            )
        self._write_offsets()
        state = {
            "totals": self.totals,
            "recipe": recipe,
            "dtype": self.dtype.str,
            "pad": self.tokenizer.pad,
        }
        self._partial(STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")

        for name in (IDS, OFFSETS, STATE):
            sync(self._partial(name))
            self._partial(name).replace(self.folder / name)
        sync(self.folder)

    def _write_offsets(self) -> None:
        offsets = self._partial(OFFSETS)
        with naming(self.folder, offsets), offsets.open("wb") as file:
            np.save(file, np.memmap(self.ends, dtype="<i8", mode="r"))
        self.ends.unlink()

    def _append(self, sequences: list[list[int]]) -> None:
        lengths = np.array([len(ids) + 1 for ids in sequences], dtype="<i8")
        end = self.tokenizer.end
        tokens = chain.from_iterable((*ids, end) for ids in sequences)
        with (
            naming(self.folder),
            self.ids.open("ab") as ids_file,
            self.ends.open("ab") as ends_file,
        ):
            ids_file.write(np.fromiter(tokens, self.dtype, count=lengths.sum()).tobytes())
            ends_file.write((self.totals["tokens"] + lengths.cumsum()).tobytes())
        self.totals["tokens"] += int(lengths.sum())

    def _partial(self, name: str) -> Path:
        return self.folder / f"{name}.partial"
