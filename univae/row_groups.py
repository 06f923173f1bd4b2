"""Groups of rows: batches in which a datum's numbers do not depend on how many are beside it.

Matrix products round the same row alike beside any number of whole groups of four rows, and not
beside one or three (x86 with AVX-512, PyTorch's MKL). A batch is therefore filled to whole groups,
or is a single row wherever it is scored. Only a datum that is scored all by itself is not filled up
to a group, which would take four times as long.
"""

import torch
from jaxtyping import Shaped
from torch import Tensor

__all__ = ["in_whole_groups", "with_whole_groups"]

GROUP = 4  # rows
FEWEST_GROUPS = 2  # that fit into memory where rows are scored in groups


def in_whole_groups(most: int, count: int) -> int:
    """Return how many of ``count`` rows are scored together where ``most`` fit into memory.

    They are whole groups or, where fewer than two groups fit, a row alone: long rows gain little
    from a batch, and filling a group would take four times as long as a row.
    """
    if count == 1 or most < FEWEST_GROUPS * GROUP:
        return 1
    return most // GROUP * GROUP


def with_whole_groups(x: Shaped[Tensor, "B *rest"]) -> Shaped[Tensor, "padded *rest"]:
    """Return a batch with its last row repeated until it has whole groups."""
    missing = -len(x) % GROUP
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x
