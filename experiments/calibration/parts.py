r"""The registry of what a calibration fits, ``PARTS``: the posterior alone, or all of the model.

Of a text VAE that was trained with blanked words and a floor of the KL, all of the model gains
more: the decoder stops to expect the blanks. It then also relies less on the latent; how much, a
result says before and after.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from torch import Tensor, nn

from density.calibration import inference_parameters
from density.model import LatentModel

__all__ = ["PARTS", "Part", "PartName"]


@dataclass(frozen=True)
class Part:
    """A row of :data:`PARTS`."""

    summary: str
    parameters: Callable[[nn.Module, Tensor], Mapping[str, nn.Parameter]]
    rate: float  # highest learning rate, in that of the training
    may_collapse: bool  # whether the latent can fall out of use


def _of_posterior(model: nn.Module, x: Tensor) -> Mapping[str, nn.Parameter]:
    return inference_parameters(cast("LatentModel", model), x)


def _of_model(model: nn.Module, x: Tensor) -> Mapping[str, nn.Parameter]:
    return dict(model.named_parameters())


PARTS: Mapping[str, Part] = {
    "posterior": Part(
        "the posterior alone, so that likelihoods stay", _of_posterior, 2.0, may_collapse=False
    ),
    "model": Part("all weights, for higher likelihoods", _of_model, 1 / 3, may_collapse=True),
}

if TYPE_CHECKING:
    PartName: TypeAlias = str
else:
    PartName = Literal[tuple(PARTS)]
