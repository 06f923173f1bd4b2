"""Combinations of loss, normalisation and penalties that cannot train, each with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass

from gan.losses import LOSSES, LossName
from gan.normalization.rules import NORMALIZATIONS, NormalizationName
from gan.penalties import PENALTIES, Penalties
from univae.errors import InputError
from univae.registry import lookup

__all__ = ["Combination", "refuse_combination"]


@dataclass(frozen=True)
class Combination:
    """The options of a training step that depend on each other.

    Attributes:
        spectral: whether the critic has spectral norm.
        generator_ratio: rows of a generator step over those of a critic step.
    """

    loss: LossName
    normalization: NormalizationName
    penalties: Penalties
    spectral: bool = False
    generator_ratio: int = 1

    @property
    def bounds(self) -> list[str]:
        """The names of the penalties in use that bound the critic's slope."""
        return [name for name in self.penalties.used() if PENALTIES[name].bounds_critic]

    def conflicts(self) -> Iterator[str]:
        """Yield the reason for each pair of options that cannot be combined."""
        yield from self._conflicts_of_normalization()
        yield from self._conflicts_of_loss()
        for name in self.bounds:
            yield from self._conflicts_of_penalty(name)

    def _conflicts_of_normalization(self) -> Iterator[str]:
        normalization = lookup(NORMALIZATIONS, self.normalization, "normalization")
        of_critic = [name for name in self.bounds if not PENALTIES[name].of_score]
        if normalization.uses_gradient and of_critic:
            yield (
                f"{', '.join(of_critic)} with {self.normalization}: the normalised score has a "
                "different gradient, of norm (n / (n + |f|))^2 <= 1 for gn, and ignores the scale "
                "of the weights; use r1, r2 or no penalty"
            )

    def _conflicts_of_loss(self) -> Iterator[str]:
        loss = lookup(LOSSES, self.loss, "loss")
        normalized = NORMALIZATIONS[self.normalization].uses_gradient
        bounded = normalized or self.spectral or bool(self.bounds)
        if loss.needs_bounded_critic and not bounded:
            yield (
                f"{self.loss} without a bound of the critic: its supremum is infinite; use gn, "
                "spectral, gp or lp"
            )
        if loss.pairs and self.generator_ratio > 1:
            yield (
                f"{self.loss} with generator_ratio > 1: every generated row is paired with a real "
                "one; use generator_ratio 1"
            )

    def _conflicts_of_penalty(self, name: str) -> Iterator[str]:
        penalty = PENALTIES[name]
        if penalty.losses and self.loss not in penalty.losses:
            yield f"{name} with {self.loss}: {penalty.reason}"
        if penalty.exclusive and (len(self.bounds) > 1 or self.spectral):
            yield (
                f"{name} with another constraint: clipping is a complete constraint; use one of "
                "them"
            )
        for other in penalty.excludes:
            if other in self.bounds:
                yield f"{name} with {other}: two targets for the same gradient; use one of them"


def refuse_combination(combination: Combination) -> None:
    """Raise :class:`InputError` with the reason if the options cannot be combined."""
    for reason in combination.conflicts():
        raise InputError(f"options that cannot be combined: {reason}")
