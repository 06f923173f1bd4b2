r"""Sums over the enumerated values of Pyro's discrete sites, one variable at a time.

.. math:: \log \sum_{c_1, \dots, c_n} \prod_i f_i(c_{S_i})

A variable is summed out of the product of those factors alone that depend on it, so that a Markov
chain of T sites with S values costs T tables of S x S. Factors are added in the log domain before
they are exponentiated: values that two factors contradict keep their mass.

References:
    Tensor Variable Elimination for Plated Factor Graphs (Obermeyer et al., 2019),
    https://arxiv.org/abs/1902.03210
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from density.pyro_traces import Node
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["Factor", "factor", "marginal"]

OUTER_DIMS = 2  # of the particles and of the data, last in every factor


class Factor(NamedTuple):
    """A log-probability: one axis for each of its variables, then particles and data."""

    variables: tuple[int, ...]  # numbers that Pyro gives to enumerated sites
    values: Tensor


def factor(name: str, node: Node) -> Factor:
    """Return the log-probability of a site of the model, its axes told apart by their numbers.

    Under ``pyro.markov`` sites that never meet share an axis.

    Raises:
        InputError: an axis belongs neither to a plate nor to an enumerated site.
    """
    log_prob = at_least_float32(node["log_prob"])
    numbers = node["infer"].get("_dim_to_id", {})
    shape = (1,) * (OUTER_DIMS - log_prob.dim()) + tuple(log_prob.shape)
    variables = []
    sizes = []
    for axis, size in enumerate(shape[:-OUTER_DIMS]):
        dim = axis - len(shape)
        if size == 1:
            continue
        if dim not in numbers:
            raise InputError(
                f"from_pyro: site {name!r} of the model has an axis of {size} that is no plate "
                "and no enumerated site; use .to_event() for what is inside a datum"
            )
        variables.append(numbers[dim])
        sizes.append(size)
    return Factor(tuple(variables), log_prob.reshape(*sizes, *shape[-OUTER_DIMS:]))


def marginal(factors: Sequence[Factor], shape: tuple[int, int]) -> Float[Tensor, "K B"]:
    """Return the log of the sum over all variables of the product of ``factors``."""
    remaining = list(factors)
    while variables := _variables(remaining):
        variable = min(variables, key=partial(_product_size, remaining))
        dependent = [factor for factor in remaining if variable in factor.variables]
        remaining = [factor for factor in remaining if variable not in factor.variables]
        remaining.append(_sum_out(_product(dependent), variable))
    return _product(remaining).values.expand(shape)


def _variables(factors: Sequence[Factor]) -> list[int]:
    return sorted({variable for factor in factors for variable in factor.variables})


def _product_size(factors: Sequence[Factor], variable: int) -> int:
    """Return the entries of the product of the factors that depend on ``variable``."""
    sizes: dict[int, int] = {}
    for factor in factors:
        if variable in factor.variables:
            sizes.update(zip(factor.variables, factor.values.shape, strict=False))
    return math.prod(sizes.values())


def _product(factors: Sequence[Factor]) -> Factor:
    variables = _variables(factors)
    total = _aligned(factors[0], variables)
    for factor in factors[1:]:
        total = total + _aligned(factor, variables)
    return Factor(tuple(variables), total)


def _aligned(factor: Factor, variables: Sequence[int]) -> Tensor:
    """Return the values with one axis for each of ``variables``, of size 1 for all others."""
    order = sorted(range(len(factor.variables)), key=factor.variables.__getitem__)
    values = factor.values.permute(*order, -2, -1)
    present = iter(values.shape)
    sizes = [next(present) if variable in factor.variables else 1 for variable in variables]
    return values.reshape(*sizes, *values.shape[-OUTER_DIMS:])


def _sum_out(factor: Factor, variable: int) -> Factor:
    axis = factor.variables.index(variable)
    others = factor.variables[:axis] + factor.variables[axis + 1 :]
    return Factor(others, factor.values.logsumexp(axis))
