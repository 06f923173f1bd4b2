r"""The von Mises-Fisher normaliser at large concentrations, as series in :math:`1 / \kappa`.

There :math:`A_d` is so close to 1, and :math:`L_d` so close to :math:`\kappa`, that differences
lose all digits of their derivatives. The deficit :math:`D = 1 - A_d` obeys the equation of
:math:`A_d`, whose coefficients follow from each other:

.. math:: A_d' = 1 - A_d^2 - \frac{d - 1}{\kappa} A_d, \qquad
          D = \sum_{k \ge 0} b_k \kappa^{-k - 1}, \qquad b_0 = \frac{d - 1}{2},
          \qquad 2 b_k = (k - d + 1)\, b_{k-1} + \sum_{i + j = k - 1} b_i b_j

References:
    NIST Digital Library of Mathematical Functions, section 10.40(i),
    https://dlmf.nist.gov/10.40
"""

import math
from fractions import Fraction
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["asymptotic_deficit", "asymptotic_surplus", "is_asymptotic"]

TERMS = 16  # of a series: the next is below the rounding of float64 where it is used

# Concentrations from which the series are used, at least and for each dimension.
SMALLEST_CONCENTRATION = 100.0
CONCENTRATION_PER_DIMENSION = 10.0

CACHE_SIZE = 32  # dimensions


def is_asymptotic(kappa: Float[Tensor, "*batch"], dim: int) -> Bool[Tensor, "*batch"]:
    """Return where the series hold to float64."""
    return kappa >= max(SMALLEST_CONCENTRATION, CONCENTRATION_PER_DIMENSION * dim)


def asymptotic_deficit(kappa: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`1 - A_d(\kappa)`."""
    y = kappa.reciprocal()
    return y * _polynomial(y, _coefficients(dim))


def asymptotic_surplus(kappa: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`L_d(\kappa) - \kappa`, the integral of :math:`-D`.

    .. math:: L_d(\kappa) - \kappa = \log C_d(0) + \tfrac{d - 1}{2} \log \frac{2 \pi}{\kappa}
              + \sum_{k \ge 1} \frac{b_k}{k} \kappa^{-k}
    """
    y = kappa.reciprocal()
    first, *others = _coefficients(dim)
    log_uniform = math.lgamma(dim / 2) - math.log(2) - dim / 2 * math.log(math.pi)
    integrated = tuple(b / k for k, b in enumerate(others, start=1))
    return log_uniform + first * (math.tau * y).log() + y * _polynomial(y, integrated)


def _polynomial(y: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Return the sum of ``coefficients[k]`` times the k-th power of y, by Horner's rule."""
    total = torch.zeros_like(y)
    for coefficient in reversed(coefficients):
        total = total * y + coefficient
    return total


@lru_cache(maxsize=CACHE_SIZE)
def _coefficients(dim: int) -> tuple[float, ...]:
    r"""Return :math:`b_0, \dots`, computed exactly: terms of the recurrence cancel."""
    b = [Fraction(dim - 1, 2)]
    for k in range(1, TERMS):
        products = sum(b[i] * b[k - 1 - i] for i in range(k))
        b.append(((k - dim + 1) * b[k - 1] + products) / 2)
    return tuple(float(coefficient) for coefficient in b)
