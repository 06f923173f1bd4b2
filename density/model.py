r"""The interface of a latent-variable model :math:`p(z)\, p(x \mid z)`.

With the proposal :math:`q(z \mid x)` these are three distributions, each a
``torch.distributions.Distribution``: any model that returns them can be scored.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from univae.dtypes import is_number_array
from univae.errors import InputError

__all__ = [
    "LatentModel",
    "as_data",
    "check_gradients",
    "draw_prior",
    "model_input",
    "number_array",
]


@runtime_checkable
class LatentModel(Protocol):
    r"""A model of data ``x`` whose first axis counts B independent data.

    Shapes, for latents with event shape ``E`` and any sample shape ``S``: ``z`` is ``(*S, B, *E)``,
    and all three log-densities of ``z`` (of ``x`` given ``z``) are ``(*S, B)``: sum over pixels,
    words and layers, never average.

    Where scores use draws of each datum's own (:mod:`density.estimation.streams`), a ``sample()``
    that calls random functions of PyTorch is to ask them for tensors ``(*S, B, ...)``: the data are
    told by the length of the axis after one sample axis. A tensor of another meaning whose axis has
    that length by chance, say (samples, latents), is drawn by datum as well.
    """

    def prior(self) -> Distribution:
        r"""Return :math:`p(z)`, of batch shape ``()``, or ``(B,)`` if every datum has its own."""
        ...

    def posterior(self, x: Tensor) -> Distribution:
        r"""Return :math:`q(z \mid x)`, of batch shape ``(B,)``."""
        ...

    def likelihood(self, z: Tensor) -> Distribution:
        r"""Return :math:`p(x \mid z)`.

        Its ``log_prob(x)`` broadcasts ``x`` over the sample axes of ``z``.
        """
        ...


def as_data(x: Tensor, who: str) -> Tensor:
    """Return the data as models expect them: booleans as zeros and ones of the default dtype.

    Raises:
        InputError: ``x`` is empty; the message names ``who``.
    """
    if len(x) == 0:
        raise InputError(
            f"{who}: needs at least one datum; got a tensor of shape {tuple(x.shape)}; leave it out"
        )
    return x.to(torch.get_default_dtype()) if x.dtype == torch.bool else x


def model_input(data: object, who: str) -> Tensor:
    """Return data as the tensor that a model takes.

    A tensor stays as it is, apart from :func:`as_data`. An array, a list of numbers or a DataFrame
    becomes floats of the default dtype.

    Raises:
        InputError: there are no data, or they are no numbers in rows; the message names ``who``.
    """
    if isinstance(data, Tensor):
        return as_data(data, who)
    rows = number_array(data, who)
    return as_data(torch.as_tensor(rows.astype(np.float64)).to(torch.get_default_dtype()), who)


def number_array(data: object, who: str) -> np.ndarray:
    """Return an array, a list of numbers or a DataFrame as an array with a row for each datum.

    Raises:
        InputError: they are no numbers in rows; the message names ``who``.
    """
    try:
        rows = np.asarray(data)
    except ValueError as error:  # rows of different lengths
        raise InputError(
            f"{who}: data must have rows of one length; got a {type(data).__name__} of others; "
            "pad them"
        ) from error
    if not is_number_array(rows) or rows.ndim == 0:
        raise InputError(
            f"{who}: data must be a tensor, or an array of numbers with a row for each datum; got "
            f"{type(data).__name__} of dtype {rows.dtype}; convert them"
        )
    return rows


def draw_prior(prior: Distribution, samples: int, batch_shape: Size) -> Tensor:
    """Draw ``samples`` latents beside every datum, (samples, B, *E), from p(z) or each datum's own.

    Raises:
        InputError: the prior has a batch shape that is not that of the data.
    """
    if not prior.batch_shape:
        return prior.sample(Size((samples, *batch_shape)))
    if prior.batch_shape != batch_shape:
        raise InputError(
            f"draw_prior: the prior must be one distribution or one per datum, of batch shape () "
            f"or {tuple(batch_shape)}; got {tuple(prior.batch_shape)}; sum over other axes with "
            "Independent"
        )
    return prior.sample(Size((samples,)))


def check_gradients(who: str) -> None:
    """Raise :class:`InputError` in inference mode, which ``torch.enable_grad`` does not undo."""
    if torch.is_inference_mode_enabled():
        raise InputError(
            f"{who}: takes gradients in z; got inference mode; use torch.no_grad() instead"
        )
