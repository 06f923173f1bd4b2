"""The configuration of an image or table model, from its options and the data."""

from density.likelihoods.autoregressive import IMAGE_DIMS
from density.likelihoods.distributions import BINARY
from density.likelihoods.head import Pixels
from density.likelihoods.laws import LAWS
from experiments.data.arrays import Data
from experiments.images.models import AUTO, IMAGE_MODELS, ImageShape
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["ImageShape", "model_config"]


def model_config(shape: ImageShape, data: Data, binary: bool) -> JsonObject:
    """Return what :func:`density.images.build` takes for a model of such data.

    Args:
        shape: the options of the model.
        data: the training set.
        binary: whether pixels are drawn black or white.

    Raises:
        InputError: the likelihood does not fit the data, or the network has no such options.
    """
    kind = IMAGE_MODELS[shape.model]
    levels = BINARY if binary else data.levels
    likelihood = _likelihood(shape, levels, data.name)
    _check_reach(shape.reach, data)
    kind.check(shape)
    pixels = Pixels(
        shape=tuple(data.shape),
        likelihood=likelihood,
        levels=levels or BINARY,  # unused for real numbers
        components=shape.components,
        reach=shape.reach,
        context=shape.context,
        kinds=() if data.columns is None else data.columns.kinds,
        sizes=() if data.columns is None else data.columns.sizes,
    )
    return {**kind.config(shape, pixels), "pixels": pixels.to_json()}


def _likelihood(shape: ImageShape, levels: int | None, name: str) -> str:
    """Return the name of the pixel distribution; ``auto`` is the first that fits the data."""
    if shape.likelihood == AUTO:
        preferred = ("bernoulli", IMAGE_MODELS[shape.model].grey_law, "gaussian")
        return next(law for law in preferred if not LAWS[law].refusal(levels, name))
    reason = LAWS[shape.likelihood].refusal(levels, name)
    if reason:
        raise InputError(f"likelihood={shape.likelihood} {reason}")
    return shape.likelihood


def _check_reach(reach: int, data: Data) -> None:
    furthest = max(data.shape[1:], default=1) - 1
    if len(data.shape) == IMAGE_DIMS and reach > furthest:
        raise InputError(
            f"reach must be at most {furthest}, from edge to edge of the images of {data.name}; "
            f"got reach={reach}"
        )
