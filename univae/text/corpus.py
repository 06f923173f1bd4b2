"""A corpus on disk: one text per line in, memory-mapped token ids out, and batches of like lengths.

A corpus is a folder: ``ids.bin`` (the texts' tokens, each text closed by one END), ``offsets.npy``
(where texts start) and ``corpus.json`` (totals and fingerprints, written last, so a folder without
it is unfinished). Memory stays bounded by one batch of lines while building, and by the pages in
use and 8 bytes per text while reading.
"""

import json
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from univae.checkpoint import sync
from univae.errors import InputError

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

# What np.load raises for damaged files: numpy parses a header as Python, and archives have
# exceptions of their own.
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

LONGEST_LINE = 2**26  # bytes: a file without line ends must not fill the memory
# encoded at once: enough for a tokenizer's fast path, little memory
BATCH_TEXTS = 4096
BATCH_CHARACTERS = 500_000
WINDOW = 50  # batches' worth of texts sorted by length together
TOTALS = ("texts", "dropped", "tokens", "characters", "words", "bytes", "unknown_words")


@runtime_checkable
class Encoder(Protocol):
    """What a corpus asks of a tokenizer: ids without an end, the ids of padding and end, and a state to compare."""

    vocab_size: int
    pad: int
    end: int

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def unknown(self, text: str) -> int: ...
    def to_json(self) -> dict[str, Any]: ...


class Corpus:
    """Texts as token ids, END included, in memory-mapped files.

    ``lengths`` counts each text's tokens. ``totals`` sums over the texts kept: ``tokens`` (one END
    per text included), ``characters``, ``words`` (parted by white space), ``bytes`` (UTF-8, no line
    ends); ``dropped`` texts were too long.
    """

    def __init__(self, folder: Path) -> None:
        state = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        self.folder = folder
        self.recipe = dict(state["recipe"])
        self.pad = int(state["pad"])
        self.totals: dict[str, int] = state["totals"]
        self.offsets = np.asarray(np.load(folder / "offsets.npy", mmap_mode="r"))
        self.ids = np.asarray(np.memmap(folder / "ids.bin", dtype=state["dtype"], mode="r"))
        self.lengths = np.diff(self.offsets)
        self._require_whole()

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Open what :meth:`build` has finished.

        :class:`InputError` when there is nothing or it is damaged.
        """
        if not (folder / "corpus.json").is_file():
            raise InputError(
                f"Corpus: {folder} holds no finished corpus; build one there with Corpus.build"
            )
        try:
            return cls(folder)
        except UNREADABLE_ARRAY as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            rule = f"is damaged ({reason}); delete it and build again"
            raise InputError(f"Corpus: {folder} {rule}") from error

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
        """Encode the texts into ``folder``; opens what is there when it came from the same texts and tokenizer.

        Texts of more than ``max_length`` tokens, END included, are dropped and counted.
        ``progress`` receives the UTF-8 bytes read since its last call. :class:`InputError` when
        ``folder`` holds another corpus or no text fits.
        """
        state = json.dumps(tokenizer.to_json(), sort_keys=True).encode()
        recipe: dict[str, Any] = {
            "tokenizer": blake2b(state, digest_size=16).hexdigest(),
            "max_length": max_length,
        }
        if not (folder / "corpus.json").is_file():
            writer = _Writer(folder, tokenizer, max_length)
            writer.finish({**recipe, "texts": _pass_over(texts, writer.add, progress)})
            return cls.open(folder)
        built = cls.open(folder)
        recipe["texts"] = _pass_over(texts, None, progress)
        changed = " and ".join(
            name for name, value in recipe.items() if built.recipe.get(name) != value
        )
        if changed:
            raise InputError(
                f"Corpus: {folder} was built with other {changed}; delete it or choose another folder"
            )
        return built

    def _require_whole(self) -> None:
        """Raise ValueError where totals are no whole numbers, or the files are of other sizes."""
        if any(type(self.totals[name]) is not int for name in TOTALS):
            raise ValueError("corpus.json: the totals must be whole numbers")
        if self.offsets.ndim != 1 or self.offsets.dtype.kind not in "iu":
            raise ValueError(f"offsets.npy holds {self.offsets.dtype} {self.offsets.shape}")
        if (len(self.lengths), len(self.ids)) != (self.totals["texts"], self.totals["tokens"]):
            raise ValueError("its files disagree on their sizes")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.ids) or self.lengths.min() < 1:
            raise ValueError("offsets.npy: texts must follow each other, none of them empty")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.ids[self.offsets[:-1][i] : self.offsets[1:][i]].astype(np.int64)

    def gather(self, indices: Sequence[int] | np.ndarray) -> Int64[Tensor, "batch T"]:
        """Return the texts' ids, END included, filled with PAD on the right."""
        rows = np.asarray(indices, dtype=np.int64)
        starts = self.offsets[:-1][rows]
        lengths = self.lengths[rows]
        places = np.arange(lengths.max(initial=0))
        inside = places < lengths[:, None]
        padded = np.full(inside.shape, self.pad, dtype=np.int64)
        padded[inside] = self.ids[(starts[:, None] + places)[inside]]
        return torch.from_numpy(padded)


@dataclass
class Removed:
    """Count what :func:`read_lines` removed from a file that it read."""

    blank_lines: int = 0
    carriage_returns: int = 0  # at the end of a line
    byte_order_mark: bool = False

    def notes(self, source: str) -> list[str]:
        """Return what was removed from ``source`` in one line; none where nothing was."""
        parts = []
        if self.blank_lines:
            parts.append(f"{self.blank_lines} blank line{'' if self.blank_lines == 1 else 's'}")
        if self.carriage_returns:
            lines = f"{self.carriage_returns} line{'' if self.carriage_returns == 1 else 's'}"
            parts.append(f"the carriage return at the end of {lines}")
        if self.byte_order_mark:
            parts.append("a byte order mark")
        return [f"{source}: left out {', '.join(parts)}"] if parts else []


def read_lines(path: Path, removed: Removed | None = None) -> Iterator[str]:
    """Read one text per line, as :func:`numbered_lines` does, without the numbers."""
    for _, text in numbered_lines(path, removed):
        yield text


def numbered_lines(path: Path, removed: Removed | None = None) -> Iterator[tuple[int, str]]:
    r"""Read one text per line, with the line's number in the file: from 1, blank lines counted.

    Lines end at ``\n`` alone; one ``\r`` before it, a byte order mark and blank lines are left out,
    and counted in ``removed``. Raises :class:`InputError`, while reading, for a missing file, a
    folder, no line with a text, a line past 64 MiB, and bytes that are no UTF-8 text (naming line
    and byte).
    """
    removed = removed or Removed()
    if not path.exists() or path.is_dir():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path} is {found}; give a UTF-8 file with one text per line")
    offset = 0
    texts = 0
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
            text = _decode(line, f"{path}, line {number}", offset, removed)
            offset += len(line)
            if text.strip():
                texts += 1
                yield number, text
            else:
                removed.blank_lines += 1
    if not texts:
        found = "has no line with a text" if offset else "is empty"
        raise InputError(f"{path} {found}; give a UTF-8 file with one text per line")


def split(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Holds out ``round(count * fraction)`` indices, at least one: ``(train, held_out)``, rising.

    A pure function.
    """
    if not 0 < fraction < 1 or count < 2:
        raise InputError(
            f"split: needs 0 < fraction < 1 and two texts; got fraction={fraction} of {count}"
        )
    order = np.random.default_rng(seed % 2**64).permutation(count)
    held_out = min(max(round(count * fraction), 1), count - 1)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def token_batches(lengths: np.ndarray, max_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Cut an epoch into shuffled batches of like lengths: every text once, padded size at most ``max_tokens``.

    A pure function of its arguments, so a resumed run makes its epoch again and goes on in the
    middle. Texts are shuffled, sorted within windows of about 50 batches, and cut into batches,
    which are shuffled. Ten million texts cost about 4 s and 0.3 GB. :class:`InputError` for a text
    over the budget.
    """
    longest = int(lengths.max(initial=0))
    if longest > max_tokens:
        raise InputError(
            f"token_batches: a text has {longest} tokens; got max_tokens={max_tokens}; raise it"
        )
    generator = np.random.default_rng([seed % 2**64, epoch])
    order = generator.permutation(len(lengths))
    window = np.arange(len(order)) // max(
        WINDOW * max_tokens * len(lengths) // max(int(lengths.sum()), 1), 1
    )
    order = order[np.argsort(window * (longest + 1) + lengths[order], kind="stable")]
    batches = _cut(order, lengths[order], max_tokens)
    return [batches[i] for i in generator.permutation(len(batches))]


def _cut(order: np.ndarray, lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Take as many texts as fit the budget, again and again."""
    batches = []
    start = 0
    while start < len(order):
        ahead = lengths[start : start + max_tokens // max(int(lengths[start]), 1)]
        padded = np.maximum.accumulate(ahead) * np.arange(1, len(ahead) + 1)
        stop = start + int(np.searchsorted(padded, max_tokens, side="right"))
        batches.append(order[start:stop])
        start = stop
    return batches


def _decode(line: bytes, where: str, offset: int, removed: Removed) -> str:
    if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
        raise InputError(
            f"{where}: a line may have {LONGEST_LINE} bytes, this one goes on; give one text per line"
        )
    if b"\0" in line:
        raise InputError(
            f"{where}, byte {offset + line.index(0)}: a NUL byte, so no UTF-8 text; convert the file"
        )
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        place = offset + error.start
        raise InputError(
            f"{where}, byte {place}: not UTF-8 ({error.reason}); convert the file"
        ) from error
    if not offset and text.startswith("\ufeff"):
        removed.byte_order_mark = True
        text = text.removeprefix("\ufeff")
    text = text.removesuffix("\n")
    if text.endswith("\r") and text.strip():
        removed.carriage_returns += 1
    return text.removesuffix("\r")


def fingerprint_texts(texts: Iterable[str]) -> tuple[int, str]:
    """Return the number of texts, and the fingerprint that a corpus built from them has."""
    count = 0

    def add(batch: list[str], sizes: list[int]) -> None:
        nonlocal count
        count += len(batch)

    fingerprint = _pass_over(texts, add, None)
    return count, fingerprint


def _pass_over(
    texts: Iterable[str], use: Callable[[list[str], list[int]], None] | None, progress: Any
) -> str:
    """Hand the texts on in batches with their sizes in bytes.

    Returns their fingerprint, the same for any batches.
    """
    fingerprint = blake2b(digest_size=16)
    remaining = iter(texts)
    while batch := _batch(remaining):
        encoded = [text.encode("utf-8", errors="surrogatepass") for text in batch]
        sizes = [len(data) for data in encoded]
        fingerprint.update(b"".join(len(data).to_bytes(8, "little") + data for data in encoded))
        if use:
            use(batch, sizes)
        if progress:
            progress(sum(sizes))
    return fingerprint.hexdigest()


def _batch(texts: Iterator[str]) -> list[str]:
    batch = list[str]()
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) >= BATCH_TEXTS or size >= BATCH_CHARACTERS:
            break
    return batch


class _Writer:
    """Appends batches to files under temporary names.

    ``finish`` gives them their names, ``corpus.json`` last.
    """

    def __init__(self, folder: Path, tokenizer: Encoder, max_length: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
        self.totals = np.zeros(len(TOTALS), dtype=np.int64)
        self.ids = folder / "ids.bin.partial"
        self.ends = folder / "ends.partial"
        self.ids.write_bytes(b"")
        self.ends.write_bytes(bytes(8))  # where the first text starts

    def add(self, texts: list[str], sizes: list[int]) -> None:
        sequences = self.tokenizer.encode_batch(texts)
        end = self.tokenizer.end
        # the END takes one place
        keep = [i for i, ids in enumerate(sequences) if len(ids) < self.max_length]
        kept = [texts[i] for i in keep]
        lengths = np.array([len(sequences[i]) + 1 for i in keep], dtype="<i8")
        tokens = chain.from_iterable((*sequences[i], end) for i in keep)
        with self.ids.open("ab") as ids, self.ends.open("ab") as ends:
            ids.write(np.fromiter(tokens, self.dtype, count=lengths.sum()).tobytes())
            ends.write((self.totals[TOTALS.index("tokens")] + lengths.cumsum()).tobytes())
        words = sum(len(text.split()) for text in kept)
        unknown = sum(map(self.tokenizer.unknown, kept))
        size = sum(sizes[i] for i in keep)
        characters = sum(map(len, kept))
        dropped = len(texts) - len(keep)
        self.totals += [len(keep), dropped, lengths.sum(), characters, words, size, unknown]

    def finish(self, recipe: dict[str, Any]) -> None:
        totals = dict(zip(TOTALS, self.totals.tolist(), strict=True))
        if not totals["texts"]:
            rule = f"needs a text of at most max_length={self.max_length} tokens"
            raise InputError(
                f"Corpus: {rule}; got {totals['dropped']} longer ones; raise max_length"
            )
        with (self.folder / "offsets.npy.partial").open("wb") as offsets:
            np.save(offsets, np.memmap(self.ends, dtype="<i8", mode="r"))
        state = {
            "totals": totals,
            "recipe": recipe,
            "dtype": self.dtype.str,
            "pad": self.tokenizer.pad,
        }
        (self.folder / "corpus.json.partial").write_text(
            json.dumps(state, indent=2), encoding="utf-8"
        )
        for name in ("ids.bin", "offsets.npy", "corpus.json"):
            sync(self.folder / f"{name}.partial")
            (self.folder / f"{name}.partial").replace(self.folder / name)
        self.ends.unlink()
        sync(self.folder)
