"""The options of a training step: loss, normalisation, penalties, ratio of steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from gan.augment import ChangeName
from gan.combinations import Combination, refuse_combination
from gan.losses import LossName
from gan.normalization.module_types import refuse_batch_statistics
from gan.normalization.rules import NORMALIZATIONS, GradientNorm, NormalizationName
from gan.normalization.spectral import is_spectral
from gan.penalties import PENALTIES, Penalties
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The options of :class:`gan.WGAN`; :meth:`check` refuses those that cannot be combined."""

    loss: LossName = "hinge"
    normalization: NormalizationName = "gn"
    eps: float = 0.1  # of gran; smaller: scores of a flat critic are amplified more
    K: float = 1.0  # of gn and gran: the bound of the norm of the score's gradient
    penalties: Penalties = field(default_factory=Penalties)
    lazy: int = 1  # critic steps per computation of r1 and r2, whose weight grows by this factor
    n_critic: int = 1  # critic steps per generator step
    generator_ratio: int = 1  # rows of a generator step over those of a critic step
    augment: tuple[ChangeName, ...] = ()  # random changes of all images passed to the critic
    # with gn: rescale the critic's weights after each step, because its loss ignores their scale
    rescale: bool = True
    # of the generator's moving average, in generated rows of its steps; 0: no average
    half_life: float = 0.0
    bf16: bool = False  # autocast of both networks; norms and losses stay in float32
    clip: float = 0.0  # largest norm of either player's gradient; 0: no limit

    RULES: ClassVar[Mapping[str, Rule]] = {
        "eps": at_least(1e-30, 1e6, "at least 1e-30, or float32 loses it"),
        "K": at_least(1e-30, 1e6, "at least 1e-30, or float32 loses it"),
        "lazy": at_least(1, 10**6),
        "n_critic": at_least(1, 10**4),
        "generator_ratio": at_least(1, 10**4),
        "half_life": at_least(0, 1e15, "0 (no average) or more"),
        "clip": at_least(0, 1e30, "0 (no limit) or more"),
    }

    def __post_init__(self) -> None:
        check(self)
        has_lazy_term = any(PENALTIES[name].lazy for name in self.penalties.used())
        if self.lazy > 1 and not has_lazy_term:
            names = " or ".join(name for name, penalty in PENALTIES.items() if penalty.lazy)
            raise InputError(
                f"lazy must be 1 without {names}, which alone are computed every lazy steps; got "
                f"lazy={self.lazy}; add {names}, or drop lazy"
            )

    @property
    def rule(self) -> GradientNorm | None:
        """The normalisation with its constants, or None without one."""
        return GradientNorm.of(self.normalization, self.eps, self.K)

    def check(self, critic: nn.Module) -> None:
        """Raise :class:`InputError` for options that cannot be combined, or not with ``critic``."""
        refuse_combination(
            Combination(
                self.loss,
                self.normalization,
                self.penalties,
                is_spectral(critic),
                self.generator_ratio,
            )
        )
        has_term = any(PENALTIES[name].term is not None for name in self.penalties.used())
        if has_term or NORMALIZATIONS[self.normalization].uses_gradient:
            refuse_batch_statistics(critic, "WGAN")

    def rescales(self, critic: nn.Module) -> bool:
        """Return whether the critic's weights are rescaled after each critic step."""
        ignores_scale = NORMALIZATIONS[self.normalization].ignores_scale
        return self.rescale and ignores_scale and not is_spectral(critic)
