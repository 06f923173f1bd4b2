"""Weights trained on short texts, for longer ones."""

from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from univae.attention.rotary import stretched_base
from univae.attention.scaling import Scale
from univae.errors import InputError

__all__ = ["stretched"]


@runtime_checkable
class _Positions(Protocol):
    """The configuration of a Transformer over texts, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def scale(self) -> Scale: ...
    @property
    def scale_base(self) -> int: ...
    @property
    def rotary_base(self) -> float: ...


Config = TypeVar("Config", bound=_Positions)


def stretched(config: Config, length: int) -> Config:
    r"""Return the configuration with which the same weights read texts of up to ``length`` tokens.

    Rotary positions are stretched by the ratio of the lengths, see
    :func:`univae.attention.rotary.stretched_base`. Scores of rows that see more than ``max_length``
    keys grow with :math:`\ln n` (``log_n_clip``), unless the model was trained with ``log_n``. The
    model is another one: also its likelihoods of short texts change.

    Raises:
        InputError: ``length`` is not above ``max_length``, or heads have two features.

    References:
        Su, 2023, https://kexue.fm/archives/9706, where the clip is applied to trained weights

    >>> from univae import UniVAEConfig
    >>> longer = stretched(UniVAEConfig(100, width=128, heads=2, max_length=64), 256)
    >>> longer.max_length, round(longer.rotary_base), longer.scale, longer.scale_base
    (256, 41829, 'log_n_clip', 64)
    """
    if length <= config.max_length:
        raise InputError(
            f"stretch: length must be above the model's max_length={config.max_length}; "
            f"got {length}"
        )
    factor = length / config.max_length
    base = stretched_base(config.rotary_base, config.width // config.heads, factor)
    longer = replace(config, max_length=length, rotary_base=base)
    if config.scale == "sqrt" or (
        config.scale == "log_n_clip" and config.scale_base > config.max_length
    ):
        longer = replace(longer, scale="log_n_clip", scale_base=config.max_length)
    return longer
