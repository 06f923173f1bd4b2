r"""The law of a row with columns of several kinds, some of whose cells may be missing.

.. math:: \log p(x_{\text{observed}} \mid z) = \sum_{d \text{ observed}} \log p(x_d \mid z)

Given z the columns are independent, so a missing cell is integrated out exactly by leaving its term
out. A missing cell is NaN. An encoder sees zero in its place and, beside the cells, which of them
are missing.

References:
    MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets (Mattei & Frellsen,
    2019), https://arxiv.org/abs/1812.02633
"""

from collections.abc import Sequence
from functools import cache
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.types import _size

from density.likelihoods.column_laws import COLUMN_LAWS, ColumnLaw
from density.likelihoods.law import HasLevels, Law, Scaling
from univae.dtypes import at_least_float32

__all__ = ["ColumnsLaw", "Rows"]


class _Group(NamedTuple):
    """The columns of one kind."""

    law: ColumnLaw
    positions: list[int]
    sizes: tuple[int, ...]


class ColumnsLaw(Law):
    """The distribution of a row whose columns are of ``kinds``.

    Args:
        numeric: the law of real numbers.
        kinds: the kind of each column, a name in :data:`COLUMN_LAWS`.
        sizes: the number of categories of each column, 0 where it has none.
    """

    summary = "columns of several kinds"
    uncodable = "has columns of several kinds, which are not coded"

    def __init__(self, numeric: Law, kinds: Sequence[str], sizes: Sequence[int]) -> None:
        self.numeric = numeric
        self.kinds = tuple(kinds)
        self.sizes = tuple(sizes)
        self.groups = _groups(self.kinds, self.sizes)
        if any(group.law.nats == "density" for group in self.groups):
            self.nats = "density"  # type: ignore[misc]  # of an object, where Law has it of a class

    def parameter_count(self, pixels: HasLevels) -> int:
        """Return the most parameters of a column; the others leave some unused."""
        laws = [COLUMN_LAWS[kind] for kind in self.kinds]
        return max(law.parameter_count(n) for law, n in zip(laws, self.sizes, strict=True))

    def feature_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of inputs of an encoder: of each column, and an indicator each."""
        laws = [COLUMN_LAWS[kind] for kind in self.kinds]
        counts = [law.feature_count(size) for law, size in zip(laws, self.sizes, strict=True)]
        return (sum(counts) + len(laws),)

    def features(self, x: Tensor, scaling: Scaling) -> Tensor:
        r"""Return inputs (\*batch, features) of an encoder; the last say what is missing."""
        parts = []
        for law, positions, sizes in self.groups:
            parts.append(law.features(x[..., positions], sizes, _part(scaling, positions)))
        return torch.cat([*parts, x.isnan().to(x.dtype)], -1)

    def distribution(
        self, parameters: Tensor, event_dims: int, pixels: HasLevels, scaling: Scaling
    ) -> Distribution:
        """Return the distribution of rows."""
        parts = []
        for law, positions, sizes in self.groups:
            part = _part(scaling, positions)
            numbers = parameters[..., positions, :]
            parts.append(law.distribution(numbers, sizes, part, self.numeric))
        return Rows(self, parts, parameters)

    def marginal(self, x: Tensor, pixels: HasLevels, scaling: Scaling) -> Tensor:
        """Return parameters (parameters, columns) at the marginals of the observed cells."""
        parameters = x.new_zeros(len(self.kinds), self.parameter_count(pixels))
        for law, positions, sizes in self.groups:
            part = law.marginal(x[:, positions], sizes, _part(scaling, positions), self.numeric)
            parameters[positions, : part.shape[-1]] = part.to(parameters.dtype)
        return parameters.mT

    def scaling(self, x: Tensor, initial: Scaling) -> Scaling:
        """Return the centre and spread of each column by its kind."""
        centre = torch.zeros(len(self.kinds), dtype=torch.float64, device=x.device)
        spread = torch.ones_like(centre)
        for law, positions, _ in self.groups:
            part = law.scaling(x[:, positions])
            centre[positions] = part.centre.double()
            spread[positions] = part.spread.double()
        return Scaling(centre, spread)

    def refusal(self, levels: int | None, name: str) -> str:
        """Return nothing: the kinds are those of the data."""
        return ""

    def level_count(self, pixels: HasLevels) -> int | None:
        """Return None: a row has no levels."""
        return None

    def spread(self, pixels: HasLevels) -> float:
        """Return 1, the unit of the data."""
        return 1.0


class Rows(Distribution):
    r"""The distribution of rows (\*batch, columns); a missing cell, NaN, has no term.

    Args:
        law: the kinds of the columns.
        parts: the distribution of each group of columns.
        parameters: the parameters (\*batch, columns, parameters), for the shapes.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(self, law: ColumnsLaw, parts: Sequence[Distribution], parameters: Tensor) -> None:
        self.law = law
        self.parts = parts
        self.nats = law.nats
        self._like = at_least_float32(parameters)
        super().__init__(parameters.shape[:-2], parameters.shape[-2:-1], validate_args=False)

    def log_cells(self, value: Float[Tensor, "*data columns"]) -> Float[Tensor, "*lead columns"]:
        """Return the log-probability of every cell in nats; 0 where it is missing."""
        shape = torch.broadcast_shapes(value.shape, self._extended_shape())
        terms = self._like.new_zeros(shape)
        for group, part in zip(self.law.groups, self.parts, strict=True):
            cells = value[..., group.positions]
            is_missing = cells.isnan()
            log_p = part.log_prob(cells.masked_fill(is_missing, 0.0).unsqueeze(-1))
            terms[..., group.positions] = log_p.masked_fill(is_missing, 0.0).to(terms.dtype)
        return terms

    def log_prob(self, value: Float[Tensor, "*data columns"]) -> Float[Tensor, "*lead"]:
        """Return the log-probability of the observed cells of rows in nats."""
        return self.log_cells(value).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: _size = ()) -> Tensor:
        """Draw rows."""
        rows = self._like.new_empty(Size(sample_shape) + self.batch_shape + self.event_shape)
        for group, part in zip(self.law.groups, self.parts, strict=True):
            rows[..., group.positions] = part.sample(Size(sample_shape)).squeeze(-1).to(rows.dtype)
        return rows

    @property
    def mean(self) -> Tensor:
        r"""The value (\*batch, columns) that stands for each column.

        It is the mean of numbers, the rounded mean of counts, and the most probable category, since
        categories have no mean.
        """
        return self.decide(self.statistics())

    def statistics(self) -> list[Tensor]:
        r"""Return, of each group of columns, numbers (\*batch, columns, n) that may be averaged.

        They are the means of numbers and counts, and the probabilities of categories.
        """
        pairs = zip(self.law.groups, self.parts, strict=True)
        return [group.law.statistic(part) for group, part in pairs]

    def decide(self, statistics: Sequence[Tensor]) -> Tensor:
        r"""Return rows (\*batch, columns) from :meth:`statistics`, or from averages of them."""
        rows = self._like.new_empty(*statistics[0].shape[:-2], *self.event_shape)
        for group, statistic in zip(self.law.groups, statistics, strict=True):
            rows[..., group.positions] = group.law.decide(statistic).to(rows.dtype)
        return rows


@cache
def _groups(kinds: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[_Group, ...]:
    groups = []
    for kind, law in COLUMN_LAWS.items():
        positions = [i for i, other in enumerate(kinds) if other == kind]
        if positions:
            groups.append(_Group(law, positions, tuple(sizes[i] for i in positions)))
    return tuple(groups)


def _part(scaling: Scaling, positions: list[int]) -> Scaling:
    return Scaling(scaling.centre[positions], scaling.spread[positions])
