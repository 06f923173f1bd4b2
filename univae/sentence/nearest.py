"""Exact nearest texts: the largest inner products of queries with a matrix of vectors that need not fit into memory.

The matrix is read in blocks of rows, once for all queries; what is kept is the best so far of every
query. With vectors of length 1 inner products are cosines. Rows stored as float16 are compared in
float32.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["top_k"]

BLOCK_BYTES = 2**24  # of float32 rows compared at once


def top_k(
    queries: Float[Tensor, "q width"], matrix: np.ndarray, k: int, block: int = 0
) -> tuple[Float[Tensor, "q best"], Int[Tensor, "q best"]]:
    """Return the ``k`` largest products of every query and their rows, falling; all rows where there are fewer.

    ``matrix`` is (rows, width), maybe mapped from a file; ``block`` rows are compared at once, by
    default 16 MiB of them. Equal products are given in no particular order.

    Raises:
        InputError: if ``k`` < 1 or the widths differ.
    """
    if k < 1 or matrix.ndim != 2 or matrix.shape[1] != queries.shape[1]:
        wanted = f"k >= 1 and rows of width {queries.shape[1]}"
        raise InputError(f"top_k: needs {wanted}; got k={k} and a matrix of {tuple(matrix.shape)}")
    block = block or max(1, BLOCK_BYTES // (4 * max(matrix.shape[1], 1)))
    queries = at_least_float32(queries)
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(matrix), block):
        products = queries @ torch.from_numpy(np.array(matrix[start : start + block])).to(queries).T
        found, place = products.topk(min(k, products.shape[1]), 1)
        best = torch.cat((best, found), 1)
        rows = torch.cat((rows, place + start), 1)
        best, order = best.topk(min(k, best.shape[1]), 1)
        rows = rows.gather(1, order)
    return best, rows
