"""How the micro-batches of a step are divided over processes, and divided anew over others.

A step has the micro-batches that it had where its run began, whatever the number of processes that
continue it, as far as these can share them equally. The order of the data depends on the seed and
the epoch alone, and the noise of a micro-batch on the seed, the step and its place in the step: the
weights are then those of the first number of processes, to rounding, but for what depends on how
rows are divided:

- Moving statistics of a batch normalisation are those of the first process's micro-batches. Weights
  depend on them where a single row is normalised.
- A batch normalisation of a joint batch normalises every process's part of it.
- Gradients that are folded into the optimizer have second moments of each process's own.
- Noise of a part of a joint batch, as the mirrors of ``--flip``, depends on its place.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["divided_anew", "even_parts", "share_of_each"]


def share_of_each(count: int, processes: int) -> int:
    """Return how many of ``count`` micro-batches each process computes; at least one.

    A remainder is left to the next step.
    """
    return max(1, count // processes)


def even_parts(parts: int, processes: int) -> int:
    """Return into how many micro-batches a joint batch is cut in the order of the data.

    These are the ``parts`` that it was cut into where its run began, if ``processes`` can share
    them equally, otherwise one for each process.
    """
    return parts if parts % processes == 0 else processes


def divided_anew(items: Sequence[np.ndarray], parts: int, processes: int) -> Sequence[np.ndarray]:
    """Divide every joint batch, of ``parts`` items, over another number of processes.

    Args:
        items: the rows of micro-batches; ``parts`` after each other are one joint batch.
        parts: items of a joint batch.
        processes: the processes that share it.

    Returns:
        The items of the same rows in the same order, ``processes`` of them for every joint batch.
    """
    if parts == processes:
        return items
    divided: list[np.ndarray] = []
    for start in range(0, len(items), parts):
        rows = np.concatenate(items[start : start + parts])
        divided += np.array_split(rows, processes)
    return divided
