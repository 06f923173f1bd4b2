r"""Build any image or table model from plain values.

Every model is built from plain values, kept in ``config``: :func:`build` makes the same model
again, for weights to be loaded into. Data x are (B, \*shape) as :mod:`density.likelihoods.head`
says; latents z are flat, (\*sample, B, d); the encoder runs once per ``posterior``.
"""

from collections.abc import Callable, Mapping
from typing import Any

from density.images.attention import AttentionVAE
from density.images.base import DataModel
from density.images.conv import ConvVAE
from density.images.ladder import LadderVAE
from density.images.mlp import MLPVAE
from density.images.univae import PatchVAE
from density.likelihoods.head import Pixels
from univae.errors import InputError

__all__ = ["build"]


MODELS: dict[str, Callable[..., DataModel]] = {
    kind.__name__: kind for kind in (MLPVAE, ConvVAE, AttentionVAE, LadderVAE, PatchVAE)
}


def build(config: Mapping[str, Any]) -> DataModel:
    """Make the model that a ``config`` describes, also one that was stored as JSON.

    Its weights start anew.
    """
    rest = dict(config)
    kind = rest.pop("model", None)
    pixels = dict(rest.pop("pixels", {}))
    if kind not in MODELS:
        raise InputError(f"build: model must be one of {', '.join(MODELS)}; got {kind!r}")
    try:
        shape = tuple(pixels.pop("shape"))  # JSON has lists
        return MODELS[kind](Pixels(shape, **pixels), **rest)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"build: a configuration of another version ({error}); train anew"
        ) from error
