"""One pass over texts, in batches that bound its memory, and a fingerprint of all of them."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

__all__ = ["Batch", "fingerprint_texts", "pass_over"]

# Limits of a batch: enough for a tokenizer's parallel path, and a few MB of memory.
BATCH_TEXTS = 4096
BATCH_CHARACTERS = 500_000

DIGEST_BYTES = 16
LENGTH_BYTES = 8  # of the length written before every text, so that boundaries count


class Batch(NamedTuple):
    """Some texts and the number of UTF-8 bytes of each."""

    texts: list[str]
    sizes: list[int]


def fingerprint_texts(texts: Iterable[str]) -> tuple[int, str]:
    """Return the number of texts, and the fingerprint that a corpus built from them has."""
    count = 0

    def add(batch: Batch) -> None:
        nonlocal count
        count += len(batch.texts)

    fingerprint = pass_over(texts, add)
    return count, fingerprint


def pass_over(texts: Iterable[str], use: Callable[[Batch], None]) -> str:
    """Call ``use`` with every batch, and return the fingerprint of all texts."""
    fingerprint = blake2b(digest_size=DIGEST_BYTES)
    remaining = iter(texts)
    while batch := _next_batch(remaining):
        encoded = [text.encode("utf-8", errors="surrogatepass") for text in batch]
        for data in encoded:
            fingerprint.update(len(data).to_bytes(LENGTH_BYTES, "little"))
            fingerprint.update(data)
        use(Batch(batch, [len(data) for data in encoded]))
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
