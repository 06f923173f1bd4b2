"""A corpus on disk: texts as memory-mapped token ids, gathered into padded batches.

Building needs memory for one batch of lines; reading needs the pages in use and 4 bytes per text.
Opening compares the files, those of :mod:`univae.text.corpus_files`, with their digests, at more
than 1 GB a second.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from univae.checkpoint import JsonObject
from univae.dtypes import is_integer_array
from univae.errors import InputError
from univae.mapped_files import UNREADABLE_ARRAY, map_array, release_pages
from univae.text.batches import split, token_batches
from univae.text.corpus_files import (
    ID_DTYPES,
    STATE,
    TOTALS,
    Encoder,
    ShardFiles,
    id_dtype,
)
from univae.text.corpus_writer import ALONE, CorpusWriter, Processes
from univae.text.fingerprint import DIGEST_BYTES, Batch, fingerprint_batches, fingerprint_texts
from univae.text.lines import Removed, numbered_lines, read_lines

__all__ = [
    "ALONE",
    "UNREADABLE_ARRAY",
    "Corpus",
    "Encoder",
    "Processes",
    "Removed",
    "fingerprint_texts",
    "numbered_lines",
    "read_lines",
    "split",
    "token_batches",
]

# texts that are gathered before the memory of their pages, some 64 KiB each, is given back
READ_TEXTS = 2**10


class Shard(NamedTuple):
    """Consecutive texts of a corpus, mapped from their files."""

    ids: np.ndarray  # (tokens,)
    offsets: np.ndarray  # (texts + 1,)

    @classmethod
    def open(cls, files: ShardFiles, dtype: str) -> "Shard":
        """Map a shard's files; raise ValueError where they do not cut its ids into texts."""
        offsets = np.asarray(map_array(files.offsets))
        is_empty = not files.ids.stat().st_size  # which cannot be mapped: all texts were too long
        ids = np.zeros(0, dtype) if is_empty else np.asarray(np.memmap(files.ids, dtype, mode="r"))
        if offsets.ndim != 1 or not is_integer_array(offsets):
            raise ValueError(f"{files.offsets.name} holds {offsets.dtype} {offsets.shape}")
        if not (offsets[0] == 0 and offsets[-1] == len(ids)):
            raise ValueError(f"{files.offsets.name}: its texts must be those of {files.ids.name}")
        return cls(ids, offsets)


class Corpus:
    """Texts as token ids, END included, in memory-mapped files.

    ``lengths`` holds the number of tokens of each text. ``totals`` sums over the texts of the
    corpus: ``tokens`` (one END per text included), ``characters``, ``words`` (separated by white
    space), ``bytes`` (UTF-8, without line ends), ``unknown_words``; and counts ``dropped`` texts,
    which were too long.
    """

    def __init__(self, folder: Path) -> None:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        self.folder = folder
        self.recipe = dict(state["recipe"])
        self.pad = int(state["pad"])
        self.dtype = str(state["dtype"])
        if self.dtype not in ID_DTYPES:
            raise ValueError(f"ids of dtype {self.dtype}")
        self.totals: dict[str, int] = state["totals"]
        count = state.get("shards")  # absent where there is one, as in earlier versions
        numbers = [None] if count is None else range(count)
        self.shards = [Shard.open(ShardFiles(folder, n), self.dtype) for n in numbers]
        if "digests" in state:  # which earlier versions did not store
            _require_unchanged([ShardFiles(folder, n) for n in numbers], state["digests"])
        self._ends = np.cumsum([len(shard.offsets) - 1 for shard in self.shards])
        # 4 bytes a text: no shard has as many tokens as int32 has numbers
        self.lengths = np.concatenate([_lengths(shard) for shard in self.shards])
        self._read = 0  # texts since pages were released
        self._require_consistent()

    @classmethod
    def open(cls, folder: Path, tokenizer: Encoder | None = None) -> "Corpus":
        """Open a corpus that :meth:`build` has finished.

        Raises:
            InputError: the folder has no finished corpus, its files are damaged, or it is not of
                ``tokenizer``.
        """
        if not (folder / STATE).is_file():
            raise InputError(
                f"corpus {folder}: holds no finished corpus; build one with Corpus.build"
            )
        try:
            corpus = cls(folder)
        except UNREADABLE_ARRAY as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(
                f"corpus {folder}: damaged files ({reason}); delete the folder and build again"
            ) from error
        if tokenizer is not None:
            corpus._require_tokenizer(tokenizer)
        return corpus

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        tokenizer: Encoder,
        folder: Path,
        *,
        max_length: int,
        progress: Callable[[int], object] | None = None,
        processes: Processes = ALONE,
    ) -> "Corpus":
        """Encode the texts into ``folder``, or open the corpus of the same texts and tokenizer.

        Texts of more than ``max_length`` tokens, END included, are dropped and counted.
        ``progress`` receives the UTF-8 bytes read since its last call. A build that was interrupted
        continues with the first shard that it has not finished.

        Several ``processes`` write a corpus together, if all of them call this function with the
        same arguments: each encodes its share of the shards.

        Raises:
            InputError: ``folder`` holds another corpus, or no text is short enough.
        """
        recipe: JsonObject = {
            "tokenizer": _fingerprint(tokenizer),
            "max_length": max_length,
        }
        writer = None
        if not (folder / STATE).is_file():
            writer = CorpusWriter(folder, tokenizer, recipe, processes)

        def process(batch: Batch) -> None:
            if writer is not None:
                writer.add(batch)
            if progress is not None:
                progress(sum(batch.sizes))

        fingerprint = fingerprint_batches(texts, process)
        if writer is None:
            corpus = cls.open(folder)
            corpus._require_recipe({**recipe, "texts": fingerprint})
            return corpus
        writer.end_shard(fingerprint)
        processes.wait()
        if not processes.rank:
            writer.finish(fingerprint)
        processes.wait()
        return cls.open(folder)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> np.ndarray:
        ids = self.gather([i])[0, : self.lengths[i]]
        return ids.numpy()

    def gather(self, indices: Sequence[int] | np.ndarray) -> Int64[Tensor, "batch T"]:
        """Return the texts' ids, END included, filled with PAD on the right."""
        rows = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[rows]
        rows = np.where(rows < 0, rows + len(self), rows)
        columns = np.arange(lengths.max(initial=0))
        is_token = columns < lengths[:, None]
        padded = np.full(is_token.shape, self.pad, dtype=np.int64)
        shard_of_row = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(shard_of_row):
            shard = self.shards[number]
            here = shard_of_row == number
            first_row = self._ends[number] - len(shard.offsets) + 1
            starts = shard.offsets[rows[here] - first_row]
            filled = is_token & here[:, None]
            padded[filled] = shard.ids[(starts[:, None] + columns)[is_token[here]]]
        self._release(len(rows))
        return torch.from_numpy(padded)

    def _release(self, texts: int) -> None:
        """Give back the memory of the pages that were read, every so many texts."""
        self._read += texts
        if self._read >= READ_TEXTS:
            self._read = 0
            for shard in self.shards:
                release_pages(shard.ids)
                release_pages(shard.offsets)

    def _require_tokenizer(self, tokenizer: Encoder) -> None:
        """Raise InputError where the corpus does not hold the ids of a tokenizer."""
        self._require_recipe({"tokenizer": _fingerprint(tokenizer)})
        stored = (self.pad, self.dtype)
        expected = (tokenizer.pad, id_dtype(tokenizer).str)
        if stored != expected:
            raise InputError(
                f"corpus {self.folder}: pad and dtype of ids must be {expected}, as of its "
                f"tokenizer; got {stored}; delete the folder and build again"
            )

    def _require_recipe(self, recipe: JsonObject) -> None:
        """Raise InputError where the corpus was built from other texts or with other options."""
        differences = [name for name, value in recipe.items() if self.recipe.get(name) != value]
        if differences:
            raise InputError(
                f"corpus {self.folder}: was built with other {' and '.join(differences)}; "
                "delete the folder or choose another one"
            )

    def _require_consistent(self) -> None:
        """Raise ValueError if totals are not whole numbers or files disagree on their sizes."""
        if any(type(self.totals[name]) is not int for name in TOTALS):
            raise ValueError("corpus.json: the totals must be whole numbers")
        tokens = sum(len(shard.ids) for shard in self.shards)
        if (len(self), tokens) != (self.totals["texts"], self.totals["tokens"]):
            raise ValueError("its files disagree on their sizes")
        if not len(self):
            raise ValueError("it has no text")


def _require_unchanged(files: Sequence[ShardFiles], digests: Sequence[object]) -> None:
    """Raise ValueError where the files of a shard have not the digests of its writer."""
    for shard, expected in zip(files, digests, strict=True):
        if not shard.has_digests(expected):
            names = f"{shard.ids.name} or {shard.offsets.name}"
            raise ValueError(f"{names} has changed since the corpus was built")


def _lengths(shard: Shard) -> np.ndarray:
    """Return the tokens of every text; raise ValueError for a text without any."""
    lengths = np.diff(shard.offsets)
    release_pages(shard.offsets)
    if lengths.min(initial=1) < 1:
        raise ValueError("offsets: texts must follow each other, none of them empty")
    return lengths.astype(np.int32)


def _fingerprint(tokenizer: Encoder) -> str:
    state = json.dumps(tokenizer.to_json(), sort_keys=True)
    return blake2b(state.encode(), digest_size=DIGEST_BYTES).hexdigest()
