"""The files of a corpus: shards of consecutive texts, each written batch by batch.

A shard has the texts' tokens, one END after each text, and offsets: where texts start, and where
the last one stops. The only shard of a small corpus is ``ids.bin`` and ``offsets.npy``; those of a
large one are ``ids-00000.bin`` and ``offsets-00000.npy``, and so on. ``shard-00000.json`` says that
a shard is complete, ``corpus.json`` that the corpus is: a folder without it is unfinished. Both
hold the SHA-256 of the shards' files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from univae.checkpoint import JsonObject, read_json, sync, write_json
from univae.checksums import file_digest
from univae.disk_errors import naming
from univae.errors import InputError
from univae.mapped_files import UNREADABLE_ARRAY, map_array
from univae.text.fingerprint import Batch
from univae.text.lines import is_short

__all__ = ["ID_DTYPES", "STATE", "TOTALS", "Encoder", "ShardFiles", "ShardWriter", "id_dtype"]

STATE = "corpus.json"

TOTALS = ("texts", "dropped", "tokens", "characters", "words", "bytes", "unknown_words")

# largest vocabulary whose ids fit into 16 bits
SHORT_VOCABULARY = 2**16
SHORT, LONG = "<u2", "<u4"
ID_DTYPES = (SHORT, LONG)

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


def id_dtype(tokenizer: Encoder) -> np.dtype:
    """Return the least unsigned type of a tokenizer's ids."""
    return np.dtype(SHORT if tokenizer.vocab_size <= SHORT_VOCABULARY else LONG)


@dataclass(frozen=True)
class ShardFiles:
    """The names of a shard's files; ``number`` is None for the only shard of a corpus."""

    folder: Path
    number: int | None = None

    @property
    def ids(self) -> Path:
        """The tokens of its texts."""
        return self.folder / f"ids{self._suffix}.bin"

    @property
    def offsets(self) -> Path:
        """Where its texts start and stop, counted from the start of the shard."""
        return self.folder / f"offsets{self._suffix}.npy"

    @property
    def state(self) -> Path:
        """Totals and fingerprints, while the corpus is unfinished."""
        return self.folder / f"shard{self._suffix}.json"

    def finished(self, dtype: np.dtype) -> JsonObject | None:
        """Return the state of a complete shard of ids of a type; None where it is damaged.

        A file that is missing, that has changed, or whose size contradicts the totals, is damage
        too.
        """
        state = self.written(dtype)
        return state if state and self.has_digests(state.get("digests")) else None

    def written(self, dtype: np.dtype) -> JsonObject | None:
        """Return :meth:`finished` by the sizes of the files alone."""
        if not (self.ids.is_file() and self.offsets.is_file() and self.state.is_file()):
            return None
        try:
            state = read_json(self.state)
        except InputError:
            return None
        return state if isinstance(state, dict) and self._has_sizes(state, dtype) else None

    def has_digests(self, digests: object) -> bool:
        """Return whether the two files have the digests that :class:`ShardWriter` stored."""
        return digests == [file_digest(self.ids), file_digest(self.offsets)]

    def rename(self, other: "ShardFiles") -> None:
        """Give tokens and offsets the names of ``other``."""
        self.ids.replace(other.ids)
        self.offsets.replace(other.offsets)

    def remove(self) -> None:
        """Delete the files that are there."""
        for path in (self.state, self.ids, self.offsets):
            path.unlink(missing_ok=True)

    def _has_sizes(self, state: JsonObject, dtype: np.dtype) -> bool:
        """Return whether tokens and offsets have the sizes that the totals of a state declare."""
        totals = state.get("totals")
        if not isinstance(totals, dict) or any(
            type(totals.get(name)) is not int for name in TOTALS
        ):
            return False
        try:
            if self.ids.stat().st_size != totals["tokens"] * dtype.itemsize:
                return False
            offsets = map_array(self.offsets)
        except UNREADABLE_ARRAY:
            return False
        has_texts = bool(offsets.shape == (totals["texts"] + 1,))
        return has_texts and bool(offsets[-1] == totals["tokens"])

    @property
    def _suffix(self) -> str:
        return "" if self.number is None else f"-{self.number:05d}"


class ShardWriter:
    """Writes batches of texts to temporary files, which :meth:`finish` renames."""

    def __init__(self, files: ShardFiles, tokenizer: Encoder, max_length: int) -> None:
        self.files = files
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.dtype = id_dtype(tokenizer)
        self.totals = dict.fromkeys(TOTALS, 0)
        self.ids = _partial(files.ids)
        self.ends = files.offsets.with_suffix(".ends.partial")
        self.ids.write_bytes(b"")
        self.ends.write_bytes(bytes(OFFSET_BYTES))  # offset 0 of the first text

    def add(self, batch: Batch) -> None:
        """Append the texts of at most ``max_length`` tokens, END included; count the others.

        Texts too long for a tokenizer's memory are not encoded, and counted.
        """
        short = [i for i, text in enumerate(batch.texts) if is_short(text)]
        sequences = self.tokenizer.encode_batch([batch.texts[i] for i in short])
        kept = [k for k, ids in enumerate(sequences) if len(ids) < self.max_length]
        self._append([sequences[k] for k in kept])

        rows = [short[k] for k in kept]
        texts = [batch.texts[i] for i in rows]
        self.totals["texts"] += len(rows)
        self.totals["dropped"] += len(batch.texts) - len(rows)
        self.totals["characters"] += sum(map(len, texts))
        self.totals["words"] += sum(len(text.split()) for text in texts)
        self.totals["bytes"] += sum(batch.sizes[i] for i in rows)
        self.totals["unknown_words"] += sum(map(self.tokenizer.unknown, texts))

    def finish(self, state: JsonObject) -> None:
        """Give the files their final names, and write ``state`` with their totals and digests."""
        offsets = _partial(self.files.offsets)
        with naming(self.files.offsets.parent, offsets), offsets.open("wb") as file:
            np.save(file, np.memmap(self.ends, dtype="<i8", mode="r"))
        digests = [file_digest(self.ids), file_digest(offsets)]
        for partial, path in ((self.ids, self.files.ids), (offsets, self.files.offsets)):
            sync(partial)
            partial.replace(path)
        self.ends.unlink()
        write_json(self.files.state, {**state, "totals": self.totals, "digests": digests})

    def _append(self, sequences: list[list[int]]) -> None:
        lengths = np.array([len(ids) + 1 for ids in sequences], dtype="<i8")
        end = self.tokenizer.end
        tokens = chain.from_iterable((*ids, end) for ids in sequences)
        with (
            naming(self.files.ids.parent),
            self.ids.open("ab") as ids_file,
            self.ends.open("ab") as ends_file,
        ):
            ids_file.write(np.fromiter(tokens, self.dtype, count=lengths.sum()).tobytes())
            ends_file.write((self.totals["tokens"] + lengths.cumsum()).tobytes())
        self.totals["tokens"] += int(lengths.sum())


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
