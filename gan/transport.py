"""Exact optimal transport between two point sets: the true Wasserstein distance that estimates are held against."""

import torch
from jaxtyping import Float
from torch import Tensor

from univae.errors import InputError

__all__ = ["exact_wasserstein"]


def exact_wasserstein(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], p: float = 1.0) -> float:
    r"""Returns :math:`W_p` of two uniform empirical measures under the Euclidean distance.

    As an assignment for sets of one size, through the package POT for others. Cost grows with the cube of the size: a
    second for 1,000 points, a minute for 4,000.

    Raises:
        InputError: for sets of two sizes without POT.
    """
    cost = torch.cdist(a.detach().double(), b.detach().double()).pow(p).cpu().numpy()
    if len(a) == len(b):
        from scipy.optimize import linear_sum_assignment

        value = cost[linear_sum_assignment(cost)].mean()
    else:
        try:
            import ot
        except ImportError as error:
            sizes = f"exact_wasserstein: sets of {len(a)} and {len(b)} points need the package POT"
            raise InputError(f"{sizes}; install it (pip install POT), or give sets of one size") from error
        value = ot.emd2([], [], cost, numItermax=10_000_000)
    return float(value) ** (1 / p)
