"""A fingerprint of texts, computed in one pass over batches of bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

__all__ = ["Batch", "fingerprint_batches", "fingerprint_texts"]

# Limits of a batch: enough for a tokenizer's parallel path, and a few MB of memory.
BATCH_TEXTS = 4096
BATCH_CHARACTERS = 500_000

DIGEST_BYTES = 16
LENGTH_BYTES = 8  # of the length hashed before every text, so that text boundaries count


class Batch(NamedTuple):
    """Some texts, the number of UTF-8 bytes of each, and a fingerprint of all up to the last."""

    texts: list[str]
    sizes: list[int]
    fingerprint: str


def fingerprint_texts(texts: Iterable[str]) -> tuple[int, str]:
    """Return the number of texts, and the fingerprint that a corpus built from them has."""
    count = 0

    def add(batch: Batch) -> None:
        nonlocal count
        count += len(batch.texts)

    fingerprint = fingerprint_batches(texts, add)
    return count, fingerprint


def fingerprint_batches(texts: Iterable[str], process: Callable[[Batch], None]) -> str:
    """Call ``process`` with every batch, and return the fingerprint of all texts."""
    fingerprint = blake2b(digest_size=DIGEST_BYTES)
    remaining = iter(texts)
    while batch := _next_batch(remaining):
        encoded = [text.encode("utf-8", errors="surrogatepass") for text in batch]
        for data in encoded:
            fingerprint.update(len(data).to_bytes(LENGTH_BYTES, "little"))
            fingerprint.update(data)
        process(Batch(batch, [len(data) for data in encoded], fingerprint.hexdigest()))
    return fingerprint.hexdigest()


def _next_batch(texts: Iterator[str]) -> list[str]:
    batch = list[str]()
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) >= BATCH_TEXTS or size >= BATCH_CHARACTERS:
            break
    return batch
