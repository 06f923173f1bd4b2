"""Splits of a corpus into training and held-out texts, and batches of texts of similar lengths.

All functions are pure, so a resumed run computes the same batches.
"""

import numpy as np

from univae.errors import InputError

__all__ = ["split", "token_batches"]

WINDOW = 50  # batches whose texts are sorted by length together

FEWEST_TEXTS = 2  # of a split: one for training, one held out

INT32_MAX = 2**31 - 1

SEEDS = 2**64  # modulus of seeds: NumPy's generators take no negative seed


def split(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices ``(train, held_out)``, each ascending.

    ``round(count * fraction)`` indices are held out, at least one and not all.

    Raises:
        InputError: ``fraction`` outside (0, 1), or fewer than two texts.
    """
    if not 0 < fraction < 1:
        raise InputError(f"split: fraction must lie in (0, 1), a share; got fraction={fraction}")
    if count < FEWEST_TEXTS:
        raise InputError(
            f"split: {FEWEST_TEXTS} texts or rows at least are needed, one of them held out; "
            f"got {count}; give more data"
        )
    order = _shuffled(np.random.default_rng(seed % SEEDS), count)
    held_out = min(max(round(count * fraction), 1), count - 1)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def token_batches(lengths: np.ndarray, max_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the batches of an epoch: every text once, at most ``max_tokens`` ids with padding.

    Texts are shuffled, sorted within windows of about 50 batches, and cut into batches, which are
    shuffled. Beside ``lengths``, memory is 4 bytes a text for the order, and a copy of ``lengths``.

    Raises:
        InputError: a text is longer than ``max_tokens``.
    """
    longest = int(lengths.max(initial=0))
    if longest > max_tokens:
        raise InputError(
            f"batch_tokens: a text has {longest} tokens; got max_tokens={max_tokens}; raise it"
        )
    generator = np.random.default_rng([seed % SEEDS, epoch])
    order = _shuffled(generator, len(lengths))
    texts_per_window = WINDOW * max_tokens * len(lengths) // max(int(lengths.sum()), 1)
    for start in range(0, len(order), max(texts_per_window, 1)):
        window = order[start : start + max(texts_per_window, 1)]
        window[:] = window[np.argsort(lengths[window], kind="stable")]

    batches = _cut(order, lengths[order], max_tokens)
    return [batches[i] for i in generator.permutation(len(batches))]


def _shuffled(generator: np.random.Generator, count: int) -> np.ndarray:
    """Return the numbers below ``count`` in random order, of 4 bytes each where they fit."""
    dtype = np.int32 if count <= INT32_MAX else np.int64
    numbers = np.arange(count, dtype=dtype)
    generator.shuffle(numbers)
    return numbers


def _cut(order: np.ndarray, lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Cut ``order`` into consecutive batches, each with as many texts as fit ``max_tokens``."""
    batches = []
    start = 0
    while start < len(order):
        most_texts = max_tokens // max(int(lengths[start]), 1)
        candidates = lengths[start : start + most_texts]
        padded = np.maximum.accumulate(candidates) * np.arange(1, len(candidates) + 1)
        stop = start + int(np.searchsorted(padded, max_tokens, side="right"))
        batches.append(order[start:stop])
        start = stop
    return batches
