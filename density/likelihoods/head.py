r"""The output of a decoder: from parameters of every pixel to a distribution of images or rows.

Data reach a model as floats that hold levels 0..levels-1 (0 and 1 for a Bernoulli law), or real
numbers for a Gaussian. The scaling for networks is applied here, so every log-probability is one of
the data in their original unit.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import EllipsisType
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from density.likelihoods.autoregressive import IMAGE_DIMS, Causal, CausalPixels, Position
from density.likelihoods.column_laws import COLUMN_LAWS
from density.likelihoods.columns import ColumnsLaw
from density.likelihoods.distributions import Nats
from density.likelihoods.law import Law, LocationScale, Scaling
from density.likelihoods.laws import LAWS, MOST_LEVELS, LawName
from univae.checkpoint import JsonObject
from univae.dtypes import at_least_float32, computation_dtype
from univae.errors import InputError
from univae.registry import lookup
from univae.rules import DATUM, SIZE, Rule, at_least, check_values

__all__ = ["Output", "Pixels"]

Index: TypeAlias = tuple[EllipsisType | int | Tensor, ...]


def _sides(shape: tuple[int, ...]) -> str:
    if not shape or min(shape) < 1:
        return "at least one side, all positive"
    return "" if math.prod(shape) <= DATUM else f"at most {DATUM} numbers together"


def _law_name(name: str) -> str:
    return "" if name in LAWS else f"one of {', '.join(LAWS)}"


@dataclass(frozen=True)
class Pixels:
    """The shape of one image or row, and the law of its pixels.

    All fields are plain values, to be stored with the model.
    """

    shape: tuple[int, ...]  # (channels, height, width) or (columns,)
    likelihood: LawName = "bernoulli"
    levels: int = 2  # of whole numbers; a Gaussian ignores it
    components: int = 1  # of a mixture of logistics
    # rows above and columns to either side that a pixel depends on; 0: none; see
    # density.likelihoods.autoregressive
    reach: int = 0
    context: int = 32  # features of the pixels within reach
    # of a table with named columns: their kinds and numbers of categories; see
    # density.likelihoods.columns
    kinds: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    RULES: ClassVar[Mapping[str, Rule]] = {
        "shape": _sides,
        "likelihood": _law_name,
        "levels": at_least(2, MOST_LEVELS),
        "components": at_least(1, 1000),
        "reach": at_least(0, 1000, "0, or more for images (c, h, w)"),
        "context": at_least(1, SIZE),
    }

    def __post_init__(self) -> None:
        check_values("Pixels", self.RULES, vars(self))
        if self.kinds:
            self._check_columns()
        rule = self.law.levels_rule(self.levels)
        if rule:
            raise InputError(f"Pixels: levels must be {rule}; got levels={self.levels}")
        if self.reach and len(self.shape) != IMAGE_DIMS:
            raise InputError(
                f"Pixels: reach must be 0, or more for images (c, h, w); got reach={self.reach}"
            )

    def _check_columns(self) -> None:
        """Raise :class:`InputError` where kinds, sizes and shape do not fit each other."""
        for kind in self.kinds:
            lookup(COLUMN_LAWS, kind, "Pixels: kinds")
        if self.shape != (len(self.kinds),) or len(self.sizes) != len(self.kinds):
            raise InputError(
                f"Pixels: kinds must have one entry for each column; got {len(self.kinds)} kinds "
                f"and {len(self.sizes)} sizes for the shape {self.shape}"
            )
        if not isinstance(LAWS[self.likelihood], LocationScale):
            raise InputError(
                "Pixels: likelihood must be one of real numbers where columns have kinds; "
                f"got {self.likelihood}"
            )

    @property
    def law(self) -> Law:
        """The row of ``LAWS`` that ``likelihood`` names; of columns with kinds, their joint law."""
        law = LAWS[self.likelihood]
        return ColumnsLaw(law, self.kinds, self.sizes) if self.kinds else law

    def to_json(self) -> JsonObject:
        """Return all fields as plain values; without kinds as before there were any."""
        values = asdict(self)
        if not self.kinds:
            del values["kinds"], values["sizes"]
        return values

    @property
    def dims(self) -> int:
        """The number of pixels, channels counted, or of columns."""
        return math.prod(self.shape)

    @property
    def nats(self) -> Nats:
        """Whether log-probabilities are of a mass or of a density."""
        return self.law.nats

    @property
    def level_count(self) -> int | None:
        """The number of levels that have a probability; None: real numbers have a density."""
        return self.law.level_count(self)


class Output(nn.Module):
    r"""The last step of a decoder: ``numbers`` per pixel, plus a bias per pixel, to a distribution.

    With a ``reach`` the numbers are features, added to those of the pixels before; a network maps
    the sum to parameters. :meth:`match_marginals` sets the bias so that a decoder whose output is
    zero gives the marginals of the data.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, pixels: Pixels) -> None:
        super().__init__()
        self.pixels = pixels
        parameters = pixels.law.parameter_count(pixels)
        self.causal: Causal | None = None
        self.numbers = parameters
        if pixels.reach:
            self.causal = Causal(pixels.shape[0], pixels.reach, pixels.context, parameters)
            self.numbers = pixels.context

        self.bias = nn.Parameter(torch.zeros(parameters, *pixels.shape))
        self.register_buffer("centre", torch.zeros(pixels.shape))
        self.register_buffer("spread", torch.full(pixels.shape, pixels.law.spread(pixels)))

    def scaled(self, x: Tensor, position: Position = ()) -> Tensor:
        """Return rows, or their values at a position, scaled for a network: levels to [0, 1]."""
        index: Index = (..., *position)
        values = x.to(computation_dtype(self.centre))
        return ((values - self.centre[index]) / self.spread[index]).to(self.centre.dtype)

    @property
    def feature_count(self) -> int:
        """The number of inputs of an encoder; see :meth:`features`."""
        return math.prod(self.pixels.law.feature_shape(self.pixels.shape))

    def features(self, x: Tensor) -> Tensor:
        r"""Return rows (\*batch, \*event) as the input (\*batch, \*features) of an encoder."""
        values = x.to(computation_dtype(self.centre))
        scaling = Scaling(self.centre, self.spread)
        return self.pixels.law.features(values, scaling).to(self.centre.dtype)

    def forward(self, raw: Tensor) -> Distribution:
        r"""Return p(x | z) of ``raw``, the decoder's output (\*lead, numbers, \*event)."""
        if self.causal is None:
            return self.distribution(raw)
        return CausalPixels(raw, self.causal, self)

    def distribution(self, raw: Tensor, position: Position = ()) -> Distribution:
        r"""Return the distribution of all pixels, or of those at a position.

        ``raw`` (\*lead, numbers, \*event) is as that of :meth:`forward`, without the axes of rows
        and columns, or with one axis instead where the position is of several pixels.
        """
        index: Index = (..., *position)
        bias = self.bias[index]
        event_dims = bias.dim() - 1
        parameters = (at_least_float32(raw) + bias).movedim(-event_dims - 1, -1)
        scaling = Scaling(self.centre[index], self.spread[index])
        return self.pixels.law.distribution(parameters, event_dims, self.pixels, scaling)

    @torch.no_grad()
    def match_marginals(self, x: Tensor) -> None:
        r"""Set bias and scaling to the marginals of the rows x (N, \*event)."""
        x = x.to(computation_dtype(self.bias))
        law = self.pixels.law
        scaling = law.scaling(x, Scaling(self.centre, self.spread))
        self.centre.copy_(scaling.centre)
        self.spread.copy_(scaling.spread)
        self.bias.copy_(law.marginal(x, self.pixels, scaling))
