r"""Distributions of images and rows: :math:`p(x \mid z) = \prod_d p(x_d \mid z)`.

A distribution of ``levels`` gives whole numbers 0..levels-1 a probability: its nats are of a
*mass*. A Gaussian gives real numbers a *density*: its nats change with the unit of the data.

References:
    PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
"""

import math
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.distributions.constraints import Constraint
from torch.types import _size

from density.likelihoods.values import check_levels, standardised
from univae.dtypes import at_least_float32

__all__ = [
    "BernoulliPixels",
    "CategoricalPixels",
    "GaussianPixels",
    "LevelPixels",
    "LogisticPixels",
    "Nats",
]

if TYPE_CHECKING:
    IndependentNormal: TypeAlias = Independent[Normal]
else:
    IndependentNormal = Independent  # which older versions of torch cannot subscript

Nats = Literal["mass", "density"]  # what a log-probability is the logarithm of

BINARY = 2  # levels of a Bernoulli pixel

# Factors of at most 2 in one product. float32 overflows at 2^128; 16 binary digits are left for the
# rounding of partial products.
FACTORS = 112

# Of a logistic, in levels: beyond, float32 has no finite 1 / s or distance / s of 2^24 levels.
LARGEST_LOG_SCALE = 60.0

HALF_LOG_TAU = math.log(math.tau) / 2


class LevelPixels(Distribution):
    """Independent whole numbers 0..levels-1 in an array of the event shape.

    A subclass implements :meth:`log_pixel`. :meth:`log_prob` sums over the event, and broadcasts
    over the axes before it.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    nats: ClassVar[Nats] = "mass"

    def __init__(self, shape: Size, event_dims: int, levels: int, device: torch.device) -> None:
        batch_dims = len(shape) - event_dims
        self.levels = levels
        self.device = device
        super().__init__(shape[:batch_dims], shape[batch_dims:], validate_args=False)

    def log_pixel(self, x: Tensor) -> Tensor:
        r"""Return :math:`\log P(x_d)` of every pixel, x broadcast."""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of images in nats.

        Raises:
            InputError: a value is not a level, such as grey values under a Bernoulli distribution.
        """
        check_levels(type(self).__name__, value, self.event_shape, self.levels)
        log_pixels = self.log_pixel(at_least_float32(value))
        return log_pixels.sum(tuple(range(-len(self.event_shape), 0)))

    def log_table(self) -> Float[Tensor, "*shape levels"]:
        r"""Return :math:`\log P(x_d = k)` for every pixel and level k, the last axis."""
        return self.log_pixel(self._all_levels()).movedim(0, -1)

    def sample(self, sample_shape: _size = ()) -> Tensor:
        """Draw images of levels, as floats of the parameters' dtype."""
        with torch.no_grad():
            table = self.log_table()
            pixels = Categorical(logits=table, validate_args=False)
            levels: Tensor = pixels.sample(Size(sample_shape))
            return levels.to(table.dtype)

    @property
    def mean(self) -> Tensor:
        r"""The mean :math:`\sum_k k\, P(x_d = k)`, in levels."""
        levels = self._all_levels()
        return (levels * self.log_pixel(levels).exp()).sum(0)

    def _all_levels(self) -> Tensor:
        ones = [1] * len(self._extended_shape())
        return torch.arange(self.levels, device=self.device).view(-1, *ones)


class BernoulliPixels(LevelPixels):
    r"""Zeros and ones: :math:`\log P(x) = \log \sigma((2x - 1)\, l)`, finite if the logit is."""

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        self.logits = at_least_float32(logits)
        super().__init__(logits.shape, event_dims, BINARY, logits.device)

    def log_pixel(self, x: Tensor) -> Tensor:
        r"""Return :math:`\log \sigma((2x - 1)\, l)` of every pixel."""
        return F.logsigmoid((2 * x - 1) * self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of images of zeros and ones, in nats."""
        if torch.is_grad_enabled():
            return super().log_prob(value)
        return self._log_prob_without_gradient(value)

    def _log_prob_without_gradient(self, x: Tensor) -> Tensor:
        r"""Sum with one logarithm per :data:`FACTORS` pixels and one temporary of the logits' size.

        .. math:: \sum_d \log \sigma(s_d l_d) = \tfrac12 \Bigl(\sum_d s_d l_d - \sum_d |l_d|\Bigr) -
                  \log \prod_d (1 + e^{-|l_d|}), \qquad s = 2x - 1

        A factor is at most 2, so a product of :data:`FACTORS` cannot overflow.
        """
        check_levels(type(self).__name__, x, self.event_shape, self.levels)
        event_dims = len(self.event_shape)
        logits = self.logits.flatten(-event_dims)
        sign = (2 * x.to(logits.dtype) - 1).flatten(-event_dims)

        scratch = sign * logits
        linear = scratch.sum(-1)
        linear -= scratch.abs_().sum(-1)

        factors = scratch.neg_().exp_().add_(1)
        chunks = factors.split(FACTORS, -1)
        products = torch.stack([chunk.prod(-1) for chunk in chunks])
        return linear / 2 - products.log().sum(0)


class CategoricalPixels(LevelPixels):
    r"""Levels with a logit each, the last axis: :math:`\log P(x) = l_x - \log \sum_k e^{l_k}`."""

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        self.logits = at_least_float32(logits)
        super().__init__(logits.shape[:-1], event_dims, logits.shape[-1], logits.device)

    def log_pixel(self, x: Tensor) -> Tensor:
        r"""Return :math:`l_x - \log \sum_k e^{l_k}` of every pixel."""
        shape = torch.broadcast_shapes(x.shape, self.logits.shape[:-1])
        level = x.long().expand(shape).unsqueeze(-1)
        logit = self.logits.expand(*shape, -1).gather(-1, level).squeeze(-1)
        return logit - self.logits.logsumexp(-1)


class LogisticPixels(LevelPixels):
    r"""A mixture of logistics cut into levels; the lowest and the highest level take the tails.

    .. math:: P(x) = \sum_m \pi_m \left[\sigma\Bigl(\frac{x + \frac12 - \mu_m}{s_m}\Bigr) -
              \sigma\Bigl(\frac{x - \frac12 - \mu_m}{s_m}\Bigr)\right], \qquad
              \sigma(b) - \sigma(a) = \sigma(b)\, \sigma(-a)\, (1 - e^{a - b})

    All terms are in the unit of a level. The factors are exact in either tail, where a difference
    would cancel. ``means``, ``log_scale`` and ``weights`` (logits of :math:`\pi`) are (\*batch,
    \*event, components); :math:`|\log s|` is clipped at 60. The channels of a colour are
    independent given z.
    """

    def __init__(
        self, means: Tensor, log_scale: Tensor, weights: Tensor, event_dims: int, levels: int
    ) -> None:
        self.means = at_least_float32(means)
        log_scale = at_least_float32(log_scale)
        self.log_scale = log_scale.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
        self.weights = at_least_float32(weights)
        super().__init__(means.shape[:-1], event_dims, levels, means.device)

    def log_pixel(self, x: Tensor) -> Tensor:
        r"""Return :math:`\log P(x_d)` of every pixel."""
        x = x.unsqueeze(-1)
        rate = (-self.log_scale).exp()  # b - a
        above = (x + 0.5 - self.means) * rate
        below = (x - 0.5 - self.means) * rate

        lowest = x <= 0
        highest = x >= self.levels - 1
        log_mass = (
            torch.where(highest, 0.0, F.logsigmoid(above))
            + torch.where(lowest, 0.0, F.logsigmoid(-below))
            + torch.where(lowest | highest, 0.0, (-torch.expm1(-rate)).log())
        )
        return (log_mass + self.weights.log_softmax(-1)).logsumexp(-1)

    def sample(self, sample_shape: _size = ()) -> Tensor:
        """Draw from the continuous mixture, round and clip, which needs no table of all levels."""
        with torch.no_grad():
            mixture = Categorical(logits=self.weights, validate_args=False)
            component = mixture.sample(Size(sample_shape))
            component = component.unsqueeze(-1)
            mean = _of_component(self.means, component)
            scale = _of_component(self.log_scale.exp(), component)

            # a uniform number of 0 would have an infinite logit
            noise = torch.rand_like(mean).clamp_min(torch.finfo(mean.dtype).tiny)
            return (mean + scale * noise.logit()).round().clamp(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        r"""The mean :math:`\sum_{k \ge 1} P(x_d \ge k)`, in levels, one level at a time."""
        rate = (-self.log_scale).exp()
        mean = torch.zeros_like(self.means)
        for level in range(1, self.levels):
            mean = mean + torch.sigmoid((self.means - level + 0.5) * rate)
        return (mean * self.weights.softmax(-1)).sum(-1)


class GaussianPixels(IndependentNormal):
    r"""Real numbers :math:`N(x_d; \mu_d, \sigma_d^2)`, in any unit: no variance is computed."""

    nats: ClassVar[Nats] = "density"

    def __init__(self, mean: Tensor, scale: Tensor, event_dims: int) -> None:
        # Parameters that are not finite give such a loss, which training reports.
        pixels = Normal(at_least_float32(mean), at_least_float32(scale), validate_args=False)
        super().__init__(pixels, event_dims)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Return :math:`-\sum_d \bigl(u_d^2 / 2 + \log \sigma_d + \log \sqrt{2 \pi}\bigr)`.

        Here :math:`u = (x - \mu) / \sigma`. In nats.
        """
        u = standardised(self.base_dist, value)
        log_pixels = -u.square() / 2 - self.base_dist.scale.log() - HALF_LOG_TAU
        return log_pixels.sum(tuple(range(-len(self.event_shape), 0)))


def _of_component(values: Tensor, component: Tensor) -> Tensor:
    """Return the values of one component per pixel."""
    shape = component.shape[:-1]
    return values.expand(*shape, -1).gather(-1, component).squeeze(-1)
