r"""Standard errors of means over scored data, some of which are equal.

Equal data share their draws (:mod:`density.estimation.streams`), so the errors of their estimates
are the same number, not independent ones: a mean over copies of one datum is as uncertain as a
single estimate.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["error_of_estimates", "error_over_data"]


def error_of_estimates(errors: Float[Tensor, "N"], datum: Int[Tensor, "N"]) -> float:
    r"""Return the standard error of a mean over N estimates, for these very data.

    .. math:: \frac1N \sqrt{\sum_g \bigl(\sum_{i \in g} \sigma_i\bigr)^2}

    over the groups g of equal data.

    Args:
        errors: the standard error of each estimate.
        datum: a number of each datum, the same for equal ones.
    """
    _, group = datum.unique(return_inverse=True)
    sums = torch.zeros(len(errors), dtype=torch.float64).index_add(0, group, errors.double())
    return sums.square().sum().sqrt().item() / len(errors)


def error_over_data(
    values: Float[Tensor, "N"], errors: Float[Tensor, "N"], datum: Int[Tensor, "N"]
) -> float:
    r"""Return the standard error of the mean of N > 1 estimates, as one for data of their law.

    .. math:: \mathrm{Var}(\bar x) = \mathrm{E}[s^2] / N + \bar c

    where s is the deviation of the values and :math:`\bar c` the mean covariance of two of them,
    which comes from equal data alone.
    """
    count = len(values)
    variance = values.double().var().item() / count
    independent = errors.double().square().sum().sqrt().item() / count
    shared = error_of_estimates(errors, datum) ** 2 - independent**2
    if math.isfinite(shared):
        variance += max(shared, 0.0) * count / (count - 1)
    return math.sqrt(variance) if variance >= 0 else math.nan
