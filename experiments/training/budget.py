"""The budget of training: a number of steps, an amount of time, or steps within a time limit."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

__all__ = ["CLOCKS", "SHORTEST", "Budget", "Clock", "Share", "Spent"]

SECONDS_PER_MINUTE = 60.0
SHORTEST = 1e-9  # seconds, for divisions by a measured time

FEW_STEPS = 100  # a time limit that holds fewer is noted
MOST_SHARE = 0.5  # share of the time that two validations may take without a note
MINUTES_SHARE = 0.1  # share of --minutes that all validations may take
LARGEST_SHARE = 0.1  # share of --time-limit that one validation may take: to bound, not to plan it

FEWEST_VALIDATIONS = 3  # a probe, one before the first step and one at the end
BETWEEN = 4  # validations that --minutes are to hold besides

# Share of a time limit after which steps that are behind are hurried.
PATIENCE = 0.5

# Functions that return seconds since some moment.
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.process_time,
}

if TYPE_CHECKING:
    Clock: TypeAlias = str
else:
    Clock = Literal[tuple(CLOCKS)]


class Share(NamedTuple):
    """How much of the time all validations may take together, and each of them."""

    share: float
    each: float

    @classmethod
    def of(cls, steps: int, *, compares: bool = False) -> "Share":
        """Return the share of a training.

        Args:
            steps: number of steps of a training with a time limit; 0 for one of ``minutes``.
            compares: whether the training is a short one for the sake of its validations, such as a
                calibration.
        """
        if steps:
            # Whole ones, wherever they fit in: the best checkpoint is then that of the steps alone.
            return cls(MOST_SHARE, LARGEST_SHARE)
        if compares:
            return cls(MOST_SHARE, MOST_SHARE / FEWEST_VALIDATIONS)
        return cls(MINUTES_SHARE, MINUTES_SHARE / (FEWEST_VALIDATIONS + BETWEEN))


class Spent(NamedTuple):
    """The seconds of a training before it is resumed."""

    seconds: float = 0.0
    reserve: float = 0.0  # the most that a validation and its checkpoints have taken so far
    prelude: float = 0.0  # before the first step
    validating: float = 0.0  # in all validations


class Budget:
    """The steps or the time that training may take.

    The ``wall`` clock measures elapsed time. The ``processor`` clock adds up the time that this
    process kept each core busy and stands still while other processes have them, so that runs side
    by side get equal shares.

    With ``minutes`` the steps do not count, and training ends early enough for one more validation
    and checkpoint. The fraction of training is measured from the first step, so that a validation
    before it does not use up the warm-up.

    With ``time_limit`` the steps count as long as they keep ahead of a line, from none of them at
    half of the limit to all at its end: the clock has no effect then. A training that falls behind
    follows the line, so that its schedule is complete when the time is. Validations are whole, and
    all are made, unless one takes a tenth of the limit or all of them half of it.

    Args:
        steps: number of steps, where ``minutes`` is 0.
        minutes: amount of time; 0: as many steps.
        time_limit: the most minutes that ``steps`` may take; 0: no limit.
        clock: a row of :data:`CLOCKS`.
        compares: see :meth:`Share.of`.
        spent: the time before a resume.
    """

    def __init__(
        self,
        steps: int,
        minutes: float = 0.0,
        time_limit: float = 0.0,
        *,
        clock: Clock = "wall",
        compares: bool = False,
        spent: Spent = Spent(),  # noqa: B008, as it is immutable
    ) -> None:
        self.steps = 0 if minutes else steps
        self.limit = SECONDS_PER_MINUTE * (minutes or time_limit)
        self.share = Share.of(self.steps, compares=compares)
        self.reserve = spent.reserve
        self.prelude = spent.prelude
        self.validating = spent.validating
        self.pace = 0.0  # seconds that the last step took
        self._now = CLOCKS[clock]
        self._start = self._now() - spent.seconds

    @property
    def timed(self) -> bool:
        """Whether time limits training, or may limit it."""
        return self.limit > 0

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._now() - self._start

    @property
    def seconds_per_validation(self) -> float:
        """The most seconds that a validation is to take."""
        return self.share.each * self.limit

    def fraction(self, step: int) -> float:
        """Return the fraction of training done after ``step`` steps; 1 if no other step fits in."""
        by_time = self._fraction_of_time(step) if self.timed else 0.0
        if not self.steps:
            return by_time
        # The middle of the next step: at its start, a warm-up would have a first step at rate 0; at
        # its end, a decay would have a last one at rate 0.
        by_steps = (step + 0.5) / self.steps if step < self.steps else 1.0
        return max(by_steps, (by_time - PATIENCE) / (1 - PATIENCE))

    def has_room(self, step: int) -> bool:
        """Return whether there is time for a validation after ``step`` steps and one at the end.

        Before the first step, the two may take half of the time. Later all of them together may
        take their share of it. Where the number of steps is not known they may take no more of the
        time so far, which spreads them over the training.
        """
        if not self.timed:
            return True
        now = self.seconds
        if step == 0:
            return now + 2 * self.reserve <= MOST_SHARE * self.limit or not self.reserve
        if now + 2 * self.reserve >= self.limit:
            return False
        share = self.share.share
        is_spread = self.steps > 0 or self.validating + self.reserve <= share * now
        return is_spread and self.validating + 2 * self.reserve <= share * self.limit

    def note_before_training(self) -> str:
        """Return a note where validations will take most of the time; otherwise an empty string."""
        left = self.limit - self.seconds - self.reserve
        if self.has_room(0) or left <= 0:
            return ""
        return (
            f"a validation takes about {_duration(self.reserve)}, so there is none before the "
            f"first step: {self._words} leave about {_duration(left)} to train; give more "
            f"{self._option}, now or with --resume"
        )

    def note_after_step(self, step: int) -> str:
        """Return a note where the time holds few steps; otherwise an empty string.

        The steps to come are taken to last as long as the last one.
        """
        left = self.limit - self.reserve - self.seconds
        steps = step + max(0, int(left / self.pace)) if self.pace > 0 else FEW_STEPS
        if steps >= min(FEW_STEPS, self.steps or FEW_STEPS):
            return ""
        return (
            f"{self._words} hold about {steps} steps; a validation takes "
            f"{_duration(self.reserve)}; give more {self._option} with --resume"
        )

    def words_without_step(self) -> str:
        """Return what to say where no step fits into the time, or no validation before it."""
        validation = f": a validation takes {_duration(self.reserve)}" if self.reserve else ""
        return (
            f"{self._words} leave no time to train{validation}; give more {self._option} with "
            "--resume"
        )

    def _fraction_of_time(self, step: int) -> float:
        """Return the share of the time for steps that has passed; 1 if no other step fits in."""
        end = self.limit - self.reserve
        now = self.seconds
        if step == 0:
            self.prelude = now
        return (now - self.prelude) / (end - self.prelude) if now + self.pace < end else 1.0

    @property
    def _option(self) -> str:
        return "--time-limit" if self.steps else "--minutes"

    @property
    def _words(self) -> str:
        return f"the {self.limit / SECONDS_PER_MINUTE:.3g} minutes of training"


def _duration(seconds: float) -> str:
    """Return a duration in words.

    >>> _duration(3.21), _duration(100.0)
    ('3.2 s', '1.7 minutes')
    """
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.2g} s"
    return f"{seconds / SECONDS_PER_MINUTE:.2g} minutes"
