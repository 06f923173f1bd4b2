"""The options of the calibration that ends the training of a VAE."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from experiments.training.settings import Settings
from univae.rules import Rule, check, within

__all__ = ["LEARNING_RATE", "Calibration", "calibration_settings"]

LEARNING_RATE = 1e-2


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The share of training that fits the posterior to the finished model."""

    # last share of --steps or --minutes, in which the parameters of the posterior alone are fitted
    # to the finished model, without dropout; kept where the held-out bound rises; 0: none
    calibration: float = 0.1

    RULES: ClassVar[Mapping[str, Rule]] = {
        "calibration": within("[0, 1)", "a share of training; 0 for none"),
    }

    def __post_init__(self) -> None:
        check(self)

    def training(self, settings: Settings) -> Settings:
        """Return the settings of the training that goes before."""
        return replace(
            settings,
            steps=settings.steps - self._steps(settings),
            minutes=(1 - self.calibration) * settings.minutes,
        )

    def settings(self, settings: Settings) -> Settings | None:
        """Return the settings of the calibration, or None where no step of it fits in."""
        if settings.minutes:
            minutes = self.calibration * settings.minutes
            return calibration_settings(settings, minutes=minutes) if minutes else None
        steps = self._steps(settings)
        return calibration_settings(settings, steps=steps) if steps else None

    def _steps(self, settings: Settings) -> int:
        return int(self.calibration * settings.steps)


def calibration_settings(
    settings: Settings, steps: int = 1, minutes: float = 0.0, lr: float = LEARNING_RATE
) -> Settings:
    """Return the settings of a calibration of ``steps``, or of ``minutes`` where these are given.

    Device, precision, threads and seed are those of the training.
    """
    return Settings(
        steps=steps,
        minutes=minutes,
        lr=lr,
        clock=settings.clock,
        seed=settings.seed,
        weight_decay=0.0,
        accumulate=settings.accumulate,
        precision=settings.precision,
        checkpoint_every=settings.checkpoint_every,
        validate_every=0,
        log_every=settings.log_every,
        threads=settings.threads,
        device=settings.device,
    )
