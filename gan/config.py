"""What a GAN's training step is made of: loss, normalisation, penalties, and the ratio of the two players' steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from gan.augment import Change
from gan.losses import LossName
from gan.normalization.gradient import GradientNorm
from gan.normalization.module_types import refuse_batch_statistics
from gan.normalization.spectral import is_spectral
from gan.penalties import Normalization, Penalties, refuse_combination
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Plain values; :meth:`check` refuses what does not go together, or not with this critic."""

    loss: LossName = "hinge"
    normalization: Normalization = "gn"
    eps: float = 0.1  # of gran
    K: float = 1.0  # of gn and gran
    penalties: Penalties = field(default_factory=Penalties)
    lazy: int = 1  # r1 and r2 are computed every so many critic steps, and weighted so many times
    n_critic: int = 1  # critic steps per generator step
    generator_ratio: int = 1  # size of a generator's batch over a critic's
    augment: tuple[Change, ...] = ()
    rescale: bool = True  # of gn: the critic's weights keep their size, which the loss is blind to
    # of the generator's moving average, in images it trained on; 0: no average
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
        if self.lazy > 1 and not (self.penalties.r1 or self.penalties.r2):
            raise InputError(
                f"Recipe: lazy needs r1 or r2, which it makes rarer; got lazy={self.lazy}"
            )

    @property
    def rule(self) -> GradientNorm | None:
        """The normalisation, if there is one."""
        if self.normalization == "none":
            return None
        return GradientNorm(self.normalization, self.eps, self.K)

    def check(self, critic: nn.Module) -> None:
        """Refuse what does not go together, with the reason."""
        spectral = is_spectral(critic)
        refuse_combination(
            self.loss, self.normalization, self.penalties, spectral, self.generator_ratio
        )
        if self.normalization != "none" or any(name != "clip" for name in self.penalties.used()):
            refuse_batch_statistics(critic, "WGAN")

    def rescales(self, critic: nn.Module) -> bool:
        """Whether the critic's weights are brought back to size after each of its steps."""
        return self.rescale and self.normalization == "gn" and not is_spectral(critic)
