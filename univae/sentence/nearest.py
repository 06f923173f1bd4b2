"""Exact nearest neighbours by inner product, in a matrix that may be larger than memory.

The matrix is read in blocks of rows, once for all queries, and only the best rows of every
query are stored: memory is that of a block and of its products, below 128 MiB beside the results.
With vectors of length 1 inner products are cosines. Rows stored as float16 are compared in float32.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from univae.dtypes import at_least_float32
from univae.errors import InputError
from univae.mapped_files import release_pages

__all__ = ["top_k"]

BLOCK_BYTES = 2**24  # of float32 rows that are compared at once
PRODUCT_BYTES = 2**26  # of float32 products of a block with all queries
FLOAT32_BYTES = 4
MATRIX_DIMENSIONS = 2


def top_k(
    queries: Float[Tensor, "q width"], matrix: np.ndarray, k: int, block: int = 0
) -> tuple[Float[Tensor, "q best"], Int[Tensor, "q best"]]:
    """Return the ``k`` largest inner products of every query, descending, and their row indices.

    The order of equal products is not defined.

    Args:
        queries: one vector a row.
        matrix: (rows, width), in memory or mapped from a file.
        k: how many products to return; all where there are fewer rows.
        block: rows that are compared at once; 0: 16 MiB of them, and 64 MiB of products.

    Raises:
        InputError: ``k`` < 1, or the widths differ.
    """
    width = queries.shape[1]
    if k < 1 or matrix.ndim != MATRIX_DIMENSIONS or matrix.shape[1] != width:
        raise InputError(
            f"top_k: needs k >= 1 and rows of width {width}; "
            f"got k={k} and a matrix of {tuple(matrix.shape)}"
        )
    rows_at_once = BLOCK_BYTES // (FLOAT32_BYTES * max(width, 1))
    products_at_once = PRODUCT_BYTES // (FLOAT32_BYTES * max(len(queries), 1))
    block = block or max(1, min(rows_at_once, products_at_once))
    queries = at_least_float32(queries)
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(matrix), block):
        vectors = torch.from_numpy(np.array(matrix[start : start + block])).to(queries)
        release_pages(matrix)
        products = queries @ vectors.T
        block_best, block_rows = products.topk(min(k, products.shape[1]), 1)
        best = torch.cat((best, block_best), 1)
        rows = torch.cat((rows, block_rows + start), 1)
        best, order = best.topk(min(k, best.shape[1]), 1)
        rows = rows.gather(1, order)
    return best, rows
