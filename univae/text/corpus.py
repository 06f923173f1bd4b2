"""A corpus on disk: texts as memory-mapped token ids, gathered into padded batches.

Building needs memory for one batch of lines; reading needs the pages in use and 8 bytes per text.
The files are those of :mod:`univae.text.corpus_files`.
"""

import json
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from univae.checkpoint import JsonObject
from univae.dtypes import is_integer_array
from univae.errors import InputError
from univae.text.batches import split, token_batches
from univae.text.corpus_files import IDS, OFFSETS, STATE, TOTALS, CorpusWriter, Encoder
from univae.text.fingerprint import DIGEST_BYTES, Batch, fingerprint_batches, fingerprint_texts
from univae.text.lines import Removed, numbered_lines, read_lines

__all__ = [
    "UNREADABLE_ARRAY",
    "Corpus",
    "Encoder",
    "Removed",
    "fingerprint_texts",
    "numbered_lines",
    "read_lines",
    "split",
    "token_batches",
]

# Exceptions of np.load for damaged files: it evaluates the header as a Python literal, and archives
# add their exceptions.
UNREADABLE_ARRAY = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    EOFError,
    SyntaxError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,  # a compression method that zipfile lacks
    RuntimeError,  # an encrypted archive
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


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
        self.totals: dict[str, int] = state["totals"]
        self.offsets = np.asarray(np.load(folder / OFFSETS, mmap_mode="r"))
        self.ids = np.asarray(np.memmap(folder / IDS, dtype=state["dtype"], mode="r"))
        self.lengths = np.diff(self.offsets)
        self._require_consistent()

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Open a corpus that :meth:`build` has finished.

        Raises:
            InputError: the folder has no finished corpus, or its files are damaged.
        """
        if not (folder / STATE).is_file():
            raise InputError(
                f"corpus {folder}: holds no finished corpus; build one with Corpus.build"
            )
        try:
            return cls(folder)
        except UNREADABLE_ARRAY as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(
                f"corpus {folder}: damaged files ({reason}); delete the folder and build again"
            ) from error

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        tokenizer: Encoder,
        folder: Path,
        *,
        max_length: int,
        progress: Callable[[int], object] | None = None,
    ) -> "Corpus":
        """Encode the texts into ``folder``, or open the corpus of the same texts and tokenizer.

        Texts of more than ``max_length`` tokens, END included, are dropped and counted.
        ``progress`` receives the UTF-8 bytes read since its last call.

        Raises:
            InputError: ``folder`` holds another corpus, or no text is short enough.
        """
        writer = None
        if not (folder / STATE).is_file():
            writer = CorpusWriter(folder, tokenizer, max_length)

        def process(batch: Batch) -> None:
            if writer is not None:
                writer.add(batch)
            if progress is not None:
                progress(sum(batch.sizes))

        recipe: JsonObject = {
            "tokenizer": _fingerprint(tokenizer),
            "max_length": max_length,
        }
        if writer is not None:
            writer.finish({**recipe, "texts": fingerprint_batches(texts, process)})
            return cls.open(folder)
        corpus = cls.open(folder)
        corpus._require_recipe({**recipe, "texts": fingerprint_batches(texts, process)})
        return corpus

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> np.ndarray:
        start = self.offsets[:-1][i]
        stop = self.offsets[1:][i]
        return self.ids[start:stop].astype(np.int64)

    def gather(self, indices: Sequence[int] | np.ndarray) -> Int64[Tensor, "batch T"]:
        """Return the texts' ids, END included, filled with PAD on the right."""
        rows = np.asarray(indices, dtype=np.int64)
        starts = self.offsets[:-1][rows]
        lengths = self.lengths[rows]
        columns = np.arange(lengths.max(initial=0))
        is_token = columns < lengths[:, None]
        padded = np.full(is_token.shape, self.pad, dtype=np.int64)
        padded[is_token] = self.ids[(starts[:, None] + columns)[is_token]]
        return torch.from_numpy(padded)

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
        if self.offsets.ndim != 1 or not is_integer_array(self.offsets):
            raise ValueError(f"offsets.npy holds {self.offsets.dtype} {self.offsets.shape}")
        if (len(self.lengths), len(self.ids)) != (self.totals["texts"], self.totals["tokens"]):
            raise ValueError("its files disagree on their sizes")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.ids) or self.lengths.min() < 1:
            raise ValueError("offsets.npy: texts must follow each other, none of them empty")


def _fingerprint(tokenizer: Encoder) -> str:
    state = json.dumps(tokenizer.to_json(), sort_keys=True)
    return blake2b(state.encode(), digest_size=DIGEST_BYTES).hexdigest()
