r"""The distribution of each kind of column: :data:`COLUMN_LAWS`, by the names of the kinds.

A law serves all columns of its kind at once. Parameters are (\*batch, columns, parameters), in the
unit of a scaling that the training set determines, and log-probabilities those of the cells in the
units of the data:

- ``numeric``: Gaussian or Student-t; location and log-scale are in deviations of the data, so the
  density includes the Jacobian of the standardisation.
- ``count``: negative binomial of mean :math:`m` and size :math:`r`, a Poisson of a Gamma rate,

  .. math:: P(x) = \frac{\Gamma(x + r)}{x!\, \Gamma(r)}
            \Bigl(\frac{r}{r + m}\Bigr)^r \Bigl(\frac{m}{r + m}\Bigr)^x,
            \qquad \operatorname{Var} x = m + m^2 / r .

  It has one parameter more than a Poisson, whose variance equals its mean; counts of tables mostly
  vary more. As r grows it becomes the Poisson.
- ``categorical``: a logit for each value.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Independent, NegativeBinomial

from density.likelihoods.distributions import CategoricalPixels, Nats
from density.likelihoods.law import Law, Scaling
from univae.dtypes import at_least_float32

__all__ = ["COLUMN_LAWS", "ColumnLaw", "Counts"]

LARGEST_LOG_SIZE = 10.0  # of a count: beyond, float64 loses the difference of log-Gammas
LARGEST_LOG_MEAN = 30.0  # of a count: one outlier would overflow the exponential
SMALLEST_MEAN = 1e-3  # of a count in the training set: the logarithm of 0 is infinite


if TYPE_CHECKING:
    IndependentCounts: TypeAlias = Independent[NegativeBinomial]
else:
    IndependentCounts = Independent  # which older versions of torch cannot subscript


class ColumnLaw(ABC):
    """The distribution of the columns of one kind.

    ``sizes`` are the numbers of categories of the columns. Rows x are (N, columns) and may hold NaN
    for missing cells, except where a method says otherwise.
    """

    summary: ClassVar[str]
    nats: ClassVar[Nats] = "mass"

    def parameter_count(self, size: int) -> int:
        """Return the number of parameters of a column: 2, a location and a log-scale."""
        return 2

    def feature_count(self, size: int) -> int:
        """Return the number of inputs of an encoder for a column."""
        return 1

    def transformed(self, x: Tensor) -> Tensor:
        """Return cells as the scaling sees them; by default as they are."""
        return x

    def features(self, x: Tensor, sizes: Sequence[int], scaling: Scaling) -> Tensor:
        r"""Return inputs (\*batch, features) of an encoder for cells; 0 where one is missing."""
        scaled = (self.transformed(x) - scaling.centre) / scaling.spread
        return scaled.nan_to_num(nan=0.0)

    def scaling(self, x: Tensor) -> Scaling:
        """Return mean and deviation of the observed cells, as the scaling sees them."""
        cells = self.transformed(x.double())
        mean = cells.nanmean(0)
        deviation = (cells - mean).square().nanmean(0).sqrt()
        return Scaling(mean.nan_to_num(), torch.where(deviation > 0, deviation, 1.0))

    @abstractmethod
    def distribution(
        self, parameters: Tensor, sizes: Sequence[int], scaling: Scaling, numeric: Law
    ) -> Distribution:
        r"""Return the distribution of batch shape (\*batch, columns) and event shape (1,).

        ``numeric`` is the law of real numbers.
        """

    @abstractmethod
    def marginal(self, x: Tensor, sizes: Sequence[int], scaling: Scaling, numeric: Law) -> Tensor:
        """Return parameters (columns, parameters) at the marginals of the observed cells."""

    def statistic(self, distribution: Distribution) -> Tensor:
        r"""Return numbers (\*batch, columns, n) whose averages over distributions have a meaning.

        By default they are the means.
        """
        return distribution.mean

    def decide(self, statistic: Tensor) -> Tensor:
        r"""Return the value (\*batch, columns) of a cell with such a statistic."""
        return statistic.squeeze(-1)


class Numeric(ColumnLaw):
    """Real numbers under the law of the model, Gaussian or Student-t."""

    summary = "real numbers, gaussian or student"
    nats = "density"

    def distribution(
        self, parameters: Tensor, sizes: Sequence[int], scaling: Scaling, numeric: Law
    ) -> Distribution:
        """Return the law's distribution of every cell."""
        one = Scaling(scaling.centre.unsqueeze(-1), scaling.spread.unsqueeze(-1))
        used = parameters[..., : numeric.parameter_count(_NO_LEVELS)]
        return numeric.distribution(used.unsqueeze(-2), 1, _NO_LEVELS, one)

    def marginal(self, x: Tensor, sizes: Sequence[int], scaling: Scaling, numeric: Law) -> Tensor:
        """Return the law's parameters for standardised data."""
        return numeric.marginal(x, _NO_LEVELS, scaling).mT


class Count(ColumnLaw):
    """Counts under a negative binomial; the scaling is that of log(1 + x)."""

    summary = "counts, negative binomial"

    def transformed(self, x: Tensor) -> Tensor:
        """Return log(1 + x)."""
        return x.log1p()

    def distribution(
        self, parameters: Tensor, sizes: Sequence[int], scaling: Scaling, numeric: Law
    ) -> Distribution:
        """Return a negative binomial of every cell."""
        log_mean = scaling.centre + scaling.spread * parameters[..., 0]
        return Counts(log_mean.unsqueeze(-1), parameters[..., 1].unsqueeze(-1))

    def marginal(self, x: Tensor, sizes: Sequence[int], scaling: Scaling, numeric: Law) -> Tensor:
        r"""Return mean and size by moments: :math:`r = m^2 / (\operatorname{Var} x - m)`."""
        mean = x.nanmean(0).clamp_min(SMALLEST_MEAN)
        excess = (x - mean).square().nanmean(0) - mean
        log_size = 2 * mean.log() - excess.clamp_min(SMALLEST_MEAN).log()
        log_mean = (mean.log() - scaling.centre) / scaling.spread
        bounded = log_size.clamp(-LARGEST_LOG_SIZE, LARGEST_LOG_SIZE)
        return torch.stack([log_mean, bounded], -1).nan_to_num()

    def decide(self, statistic: Tensor) -> Tensor:
        """Return the mean, rounded to a count."""
        return statistic.squeeze(-1).round()


class Categories(ColumnLaw):
    """Values with a probability each."""

    summary = "categories, a probability each"

    def parameter_count(self, size: int) -> int:
        """Return a logit for each value."""
        return size

    def feature_count(self, size: int) -> int:
        """Return an indicator for each value."""
        return size

    def features(self, x: Tensor, sizes: Sequence[int], scaling: Scaling) -> Tensor:
        """Return the indicators of all columns side by side; zeros where a cell is missing."""
        codes = x.nan_to_num(nan=-1.0).unsqueeze(-1)
        indicators = [
            codes[..., i, :] == torch.arange(size, device=x.device) for i, size in enumerate(sizes)
        ]
        return torch.cat(indicators, -1).to(x.dtype)

    def scaling(self, x: Tensor) -> Scaling:
        """Return no scaling: codes have no unit."""
        zeros = x.new_zeros(x.shape[1:])
        return Scaling(zeros, torch.ones_like(zeros))

    def distribution(
        self, parameters: Tensor, sizes: Sequence[int], scaling: Scaling, numeric: Law
    ) -> Distribution:
        """Return a categorical distribution of every cell, over the values of its column."""
        width = max(sizes)
        size = torch.tensor(sizes, device=parameters.device).unsqueeze(-1)
        is_value = torch.arange(width, device=parameters.device) < size
        logits = parameters[..., :width].masked_fill(~is_value, -torch.inf)
        return CategoricalPixels(logits.unsqueeze(-2), 1)

    def marginal(self, x: Tensor, sizes: Sequence[int], scaling: Scaling, numeric: Law) -> Tensor:
        """Return the logarithms of the numbers of each value, plus one each."""
        counts = [
            (x[:, i, None] == torch.arange(max(sizes), device=x.device)).sum(0)
            for i in range(len(sizes))
        ]
        return (torch.stack(counts) + 1.0).log().to(x.dtype)

    def statistic(self, distribution: Distribution) -> Tensor:
        """Return the probabilities of the values."""
        assert isinstance(distribution, CategoricalPixels)
        return distribution.logits.squeeze(-2).softmax(-1)

    def decide(self, statistic: Tensor) -> Tensor:
        """Return the most probable value."""
        return statistic.argmax(-1)


class Counts(IndependentCounts):
    r"""Negative binomials of log-mean and log-size (\*batch, event); see the module."""

    def __init__(self, log_mean: Tensor, log_size: Tensor) -> None:
        log_mean = at_least_float32(log_mean).clamp(max=LARGEST_LOG_MEAN)
        log_size = at_least_float32(log_size).clamp(-LARGEST_LOG_SIZE, LARGEST_LOG_SIZE)
        super().__init__(
            NegativeBinomial(log_size.exp(), logits=log_mean - log_size, validate_args=False), 1
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of counts in nats, summed over the event."""
        size = self.base_dist.total_count.double()
        logits = self.base_dist.logits.double()
        x = value.double()
        log_binomial = (x + size).lgamma() - (x + 1).lgamma() - size.lgamma()
        log_p = log_binomial + size * F.logsigmoid(-logits) + x * F.logsigmoid(logits)
        total: Tensor = log_p.sum(-1)
        return total.to(self.base_dist.logits.dtype)


class _NoLevels:
    """The levels and components of real numbers, which their laws do not use."""

    levels = 2
    components = 1


_NO_LEVELS = _NoLevels()

COLUMN_LAWS: Mapping[str, ColumnLaw] = {
    "numeric": Numeric(),
    "count": Count(),
    "categorical": Categories(),
}
