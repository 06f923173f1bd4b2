"""Optimal transport between two point sets: exact, and sliced into one-dimensional problems.

Estimates of the Wasserstein distance are compared with :func:`exact_wasserstein`.

References:
    Sliced and Radon Wasserstein Barycenters of Measures (Bonneel et al., 2015),
    https://doi.org/10.1007/s10851-014-0506-3
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from gan.metrics.points import checked_points
from univae.errors import InputError

__all__ = ["exact_wasserstein", "sliced_wasserstein"]

# Pivots of the network simplex, far above what sets that fit in memory need.
TRANSPORT_ITERATIONS = 10_000_000


def exact_wasserstein(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], p: float = 1.0) -> float:
    r"""Return :math:`W_p` of two uniform empirical measures under the Euclidean distance.

    Sets of equal size are compared by an assignment, others by the package POT. Time grows with the
    cube of the size: a second for 1,000 points, a minute for 4,000.

    Raises:
        InputError: the sizes differ, and POT is not installed.
    """
    cost = torch.cdist(a.detach().double(), b.detach().double()).pow(p).cpu().numpy()
    value = _assignment_cost(cost) if len(a) == len(b) else _transport_cost(cost)
    return float(value ** (1 / p))


def sliced_wasserstein(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    directions: int = 256,
    p: float = 1.0,
    generator: torch.Generator | None = None,
) -> float:
    r"""Return the sliced Wasserstein distance, over random directions :math:`\theta`.

    .. math:: (E_\theta W_p^p(\langle \theta, a \rangle, \langle \theta, b \rangle))^{1/p}

    Exact in each direction; the sets may differ in size.
    """
    a, b = checked_points(a, b, "sliced_wasserstein")
    theta = torch.randn(a.shape[1], directions, generator=generator, dtype=torch.float64)
    theta = theta.to(a.device)
    theta /= theta.norm(dim=0)
    sorted_a = (a @ theta).sort(0).values
    sorted_b = (b @ theta).sort(0).values

    # Both quantile functions are constant between the steps of either.
    steps = torch.cat((_quantile_steps(a), _quantile_steps(b)))
    ends = steps.sort().values
    lengths = ends.diff(prepend=ends.new_zeros(1))
    middles = ends - lengths / 2
    difference = _quantiles(sorted_a, middles) - _quantiles(sorted_b, middles)
    return (lengths @ difference.abs().pow(p)).mean().pow(1 / p).item()


def _assignment_cost(cost: NDArray[np.float64]) -> float:
    from scipy.optimize import linear_sum_assignment

    return float(cost[linear_sum_assignment(cost)].mean())


def _transport_cost(cost: NDArray[np.float64]) -> float:
    try:
        import ot
    except ImportError as error:
        rows, columns = cost.shape
        raise InputError(
            f"exact_wasserstein: sets of {rows} and {columns} points need the package POT; install "
            "it (pip install POT), or give sets of one size"
        ) from error
    return float(ot.emd2([], [], cost, numItermax=TRANSPORT_ITERATIONS))


def _quantile_steps(x: Tensor) -> Tensor:
    return torch.arange(1, len(x) + 1, dtype=torch.float64, device=x.device) / len(x)


def _quantiles(values: Tensor, levels: Tensor) -> Tensor:
    """Return the quantiles of sorted columns at levels in (0, 1)."""
    rows = (levels * len(values)).long().clamp_max(len(values) - 1)
    return values[rows]
