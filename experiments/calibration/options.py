"""The options of the calibration that ends the training of a VAE."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from typing_extensions import Doc

from experiments.calibration.fits import FITS, FitName
from experiments.training.settings import Settings
from univae.registry import choices_help
from univae.rules import Rule, check, within

__all__ = ["Calibration", "Plan", "plan"]


@dataclass(frozen=True)
class Plan:
    """What a calibration fits, and the settings of its training."""

    fit: FitName
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The last phase of training, which fits a VAE as it is used."""

    # last share of --steps, --minutes and --time-limit, without dropout, blanked words and floors
    # of the KL; its weights are kept where the held-out bound rises and the latent stays in use; 0:
    # none
    calibration: float = 0.1
    fit: Annotated[
        FitName, Doc(choices_help("with --calibration: weights that are fitted", FITS))
    ] = "posterior"

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
            time_limit=(1 - self.calibration) * settings.time_limit,
        )

    def plan(self, settings: Settings) -> Plan | None:
        """Return the plan of the calibration, or None where no step of it fits in."""
        if settings.minutes:
            minutes = self.calibration * settings.minutes
            return plan(settings, self.fit, minutes=minutes) if minutes else None
        steps = self._steps(settings)
        limited = replace(settings, time_limit=self.calibration * settings.time_limit)
        return plan(limited, self.fit, steps=steps) if steps else None

    def _steps(self, settings: Settings) -> int:
        return int(self.calibration * settings.steps)


def plan(settings: Settings, fit: FitName, steps: int = 1, minutes: float = 0.0) -> Plan:
    """Return the plan of a calibration of ``steps``, or of ``minutes`` where these are given.

    Args:
        settings: those of the training: device, precision, threads, seed, and the learning rate
            that the fit's is relative to.
        fit: a row of :data:`FITS`.
        steps: number of optimizer steps.
        minutes: time budget; 0: none.
    """
    return Plan(
        fit,
        Settings(
            steps=steps,
            minutes=minutes,
            time_limit=0.0 if minutes else settings.time_limit,
            lr=FITS[fit].rate * settings.lr,
            clock=settings.clock,
            seed=settings.seed,
            weight_decay=0.0,
            accumulate=settings.accumulate,
            precision=settings.precision,
            checkpoint_every=settings.checkpoint_every,
            validate_every=settings.validate_every,
            log_every=settings.log_every,
            threads=settings.threads,
            device=settings.device,
            track=settings.track,
        ),
    )
