r"""The registry of what a calibration fits, ``FITS``: the posterior alone, or all of the model.

Of a text VAE that was trained with blanked words and a floor of the KL, all of the model gains
more: the decoder stops expecting blanks. It then also relies less on the latent; how much, a result
says before and after.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from torch import Tensor, nn

from density.calibration import inference_parameters
from density.model import LatentModel

__all__ = ["FITS", "Fit", "FitName"]


@dataclass(frozen=True)
class Fit:
    """A row of :data:`FITS`."""

    summary: str
    parameters: Callable[[nn.Module, Tensor], Mapping[str, nn.Parameter]]
    rate: float  # highest learning rate, in that of the training
    may_collapse: bool  # whether the latent can fall out of use


def _of_posterior(model: nn.Module, x: Tensor) -> Mapping[str, nn.Parameter]:
    return inference_parameters(cast("LatentModel", model), x)


def _of_model(model: nn.Module, x: Tensor) -> Mapping[str, nn.Parameter]:
    return dict(model.named_parameters())


FITS: Mapping[str, Fit] = {
    "posterior": Fit(
        "the posterior alone, so that likelihoods stay", _of_posterior, 2.0, may_collapse=False
    ),
    "model": Fit("all weights, for higher likelihoods", _of_model, 1 / 3, may_collapse=True),
}

if TYPE_CHECKING:
    FitName: TypeAlias = str
else:
    FitName = Literal[tuple(FITS)]
