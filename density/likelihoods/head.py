r"""Between the data of a model and its networks: levels to inputs, and a network's numbers to a law of pixels.

Data reach a model as floats that hold level numbers 0..levels-1 (0 and 1 for a Bernoulli law), or
real numbers for a Gaussian; whatever scaling a network likes happens here, so every log-probability
is one of the data as they came.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from density.likelihoods.autoregressive import Causal, CausalPixels, Place
from density.likelihoods.laws import (
    BernoulliPixels,
    CategoricalPixels,
    GaussianPixels,
    LogisticPixels,
    Nats,
)
from univae.errors import InputError
from univae.rules import DATUM, SIZE

__all__ = ["Likelihood", "Output", "Pixels"]

Likelihood = Literal["bernoulli", "categorical", "logistic", "gaussian"]

# of a Gaussian, in deviations of the data: a constant column has no finite density
SMALLEST_SCALE = 1e-3


@dataclass(frozen=True)
class Pixels:
    """What one datum is and which law it gets.

    Plain values, so a stored copy rebuilds the model.
    """

    shape: tuple[int, ...]  # (channels, height, width) or (columns,)
    likelihood: Likelihood = "bernoulli"
    levels: int = 2  # of whole-number data; a Gaussian has no use for it
    components: int = 1  # of a mixture of logistics
    reach: int = 0  # rows above and columns to either side that a pixel sees, see density.likelihoods.autoregressive; 0: none
    context: int = 32  # features a pixel has for what it sees

    def __post_init__(self) -> None:
        binary = self.likelihood == "bernoulli"
        rules = {
            "shape": (
                all(side >= 1 for side in self.shape) and self.shape != (),
                "at least one side, all positive",
            ),
            "likelihood": (
                self.likelihood in get_args(Likelihood),
                f"one of {', '.join(get_args(Likelihood))}",
            ),
            "levels": (
                self.levels == 2 or (self.levels > 2 and not binary),
                "2 for bernoulli, 2 or more for others",
            ),
            "components": (self.components >= 1, "at least 1"),
            "reach": (
                self.reach == 0 or (self.reach > 0 and len(self.shape) == 3),
                "0, or more for images (c, h, w)",
            ),
            "context": (self.context >= 1, "at least 1"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise InputError(
                    f"Pixels: {name} must be {rule}; got {name}={getattr(self, name)!r}"
                )
        for name, most in (
            ("levels", 2**24),
            ("components", 1000),
            ("reach", 1000),
            ("context", SIZE),
        ):
            if getattr(self, name) > most:
                raise InputError(
                    f"Pixels: {name} must be at most {most}; got {name}={getattr(self, name)}"
                )
        if math.prod(self.shape) > DATUM:
            raise InputError(
                f"Pixels: shape must be at most {DATUM} numbers together; got shape={self.shape}"
            )

    @property
    def dims(self) -> int:
        """The number of pixels, channels counted."""
        return math.prod(self.shape)

    @property
    def nats(self) -> Nats:
        """What the law's nats are of."""
        return "density" if self.likelihood == "gaussian" else "mass"


class Output(nn.Module):
    """The last step of a decoder: ``numbers`` per pixel, plus a bias per pixel, to a law.

    With a ``reach`` the numbers are features, which meet those of the pixels before on their way to
    the law.

    :meth:`calibrate` sets the bias so that a decoder that says nothing gives the data their
    marginals.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, pixels: Pixels) -> None:
        super().__init__()
        self.pixels = pixels
        mixture = pixels.components * (3 if pixels.components > 1 else 2)
        taken = {"bernoulli": 1, "categorical": pixels.levels, "logistic": mixture, "gaussian": 2}[
            pixels.likelihood
        ]
        self.causal = (
            Causal(pixels.shape[0], pixels.reach, pixels.context, taken) if pixels.reach else None
        )
        self.numbers = taken if self.causal is None else pixels.context
        self.bias = nn.Parameter(torch.zeros(taken, *pixels.shape))
        top = pixels.levels - 1
        self.register_buffer("centre", torch.zeros(pixels.shape))
        self.register_buffer(
            "spread", torch.full(pixels.shape, 1.0 if pixels.nats == "density" else float(top))
        )

    def scaled(self, x: Tensor, place: Place = ()) -> Tensor:
        """Data, or what is at one place, as a network takes them: levels on [0, 1], others standardised."""
        here: Any = (..., *place)
        return (x.to(self.centre.dtype) - self.centre[here]) / self.spread[here]

    def forward(self, raw: Tensor) -> Distribution:
        r"""Make the law p(x | z) of ``raw``, of shape (\*lead, numbers, \*event)."""
        return (
            self._law(raw)
            if self.causal is None
            else CausalPixels(raw, self.causal, self._law, self.scaled)
        )

    def _law(self, raw: Tensor, place: Place = ()) -> Distribution:
        """The law of all pixels, or of those at one place."""
        dims = len(self.pixels.shape) - len(place)
        here: Any = (..., *place)
        raw = (raw + self.bias[here]).movedim(-dims - 1, -1)
        spread = self.spread[here]
        centre = self.centre[here]
        law: dict[Likelihood, Callable[[], Distribution]] = {
            "bernoulli": lambda: BernoulliPixels(raw.squeeze(-1), dims),
            "categorical": lambda: CategoricalPixels(raw, dims),
            "logistic": lambda: self._logistic(raw, dims, spread),
            "gaussian": lambda: _gaussian(raw, dims, centre, spread),
        }
        return law[self.pixels.likelihood]()

    def _logistic(self, raw: Tensor, dims: int, spread: Tensor) -> Distribution:
        parts = raw.unflatten(-1, (-1, self.pixels.components)).unbind(-2)
        means = spread[..., None] * parts[0]
        log_scale = spread.log()[..., None] + parts[1]
        weights = parts[2] if len(parts) == 3 else torch.zeros_like(means)
        return LogisticPixels(means, log_scale, weights, dims, self.pixels.levels)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        r"""Start at the marginals of the data x (N, \*event), pixel by pixel.

        Bernoulli: the logit of the mean clipped to [.001, .999]; categorical: logarithms of the
            counts, one more each;
        logistic: mean and deviation, the components side by side; Gaussian: unit and origin are
            mean and deviation.
        """
        x = x.to(self.bias.dtype)
        mean = x.mean(0)
        deviation = x.std(0, correction=0)
        if self.pixels.likelihood == "bernoulli":
            self.bias.copy_(mean.clamp(0.001, 0.999).logit())
        elif self.pixels.likelihood == "categorical":
            self.bias.copy_((_counts(x, self.pixels.levels) + 1).log())
        elif self.pixels.likelihood == "logistic":
            self.bias.copy_(self._logistic_start(mean, deviation))
        else:
            # float64: the squares of numbers above 1e19 are beyond float32.
            deviation = x.double().std(0, correction=0)
            self.centre.copy_(x.double().mean(0))
            self.spread.copy_(torch.where(deviation > 0, deviation, 1.0))

    def _logistic_start(self, mean: Tensor, deviation: Tensor) -> Tensor:
        count = self.pixels.components
        apart = torch.linspace(-1, 1, count + 2, dtype=mean.dtype, device=mean.device)[1:-1]
        means = (mean + apart.view(-1, *[1] * mean.dim()) * deviation) / self.spread
        # A logistic law of scale s has the deviation pi s / sqrt 3; half a level keeps constant
        # pixels from zero.
        scale = (
            (deviation.clamp_min(0.5) * math.sqrt(3) / math.pi / self.spread).log().expand_as(means)
        )
        return torch.cat([means, scale, torch.zeros_like(means)])[: len(self.bias)]


def _gaussian(raw: Tensor, dims: int, centre: Tensor, spread: Tensor) -> Distribution:
    mean, log_scale = raw.unbind(-1)
    scale = SMALLEST_SCALE + log_scale.exp()
    return GaussianPixels(centre + spread * mean, spread * scale, dims)


def _counts(x: Tensor, levels: int) -> Tensor:
    """How often each pixel holds each level, (levels, *event)."""
    flat = x.flatten(1).long()
    places = flat + levels * torch.arange(flat.shape[1], device=x.device)
    counts = torch.bincount(places.flatten(), minlength=levels * flat.shape[1])
    return counts.view(*x.shape[1:], levels).movedim(-1, 0)
