"""The budget of training: a number of steps, or an amount of time on a clock."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

__all__ = ["CLOCKS", "Budget", "Clock"]

SECONDS_PER_MINUTE = 60.0

FEW_STEPS = 100  # a time limit that holds fewer is noted
MOST_SHARE = 0.5  # share of the time that validations may take without a note

# Functions that return seconds since some moment.
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.process_time,
}

if TYPE_CHECKING:
    Clock: TypeAlias = str
else:
    Clock = Literal[tuple(CLOCKS)]


class Budget:
    """The steps or the time that training may take.

    The ``wall`` clock measures elapsed time. The ``processor`` clock adds up the time that this
    process kept each core busy and stands still while other processes have them, so that runs side
    by side get equal shares.

    With ``minutes`` the steps do not count, and training ends early enough for one more validation
    and checkpoint. The fraction of training is measured from the first step, so that a validation
    before it does not use up the warm-up.

    Args:
        steps: number of steps, where ``minutes`` is 0.
        minutes: amount of time; 0: no limit.
        seconds: seconds of training before a resume.
        reserve: the most seconds that a validation and its checkpoint have taken so far.
        prelude: seconds of training before the first step.
        clock: a row of :data:`CLOCKS`.
    """

    def __init__(
        self,
        steps: int,
        minutes: float,
        seconds: float = 0.0,
        reserve: float = 0.0,
        prelude: float = 0.0,
        clock: Clock = "wall",
    ) -> None:
        self.steps = steps
        self.limit = SECONDS_PER_MINUTE * minutes
        self.reserve = reserve
        self.prelude = prelude
        self.pace = 0.0  # seconds that the last step took
        self._now = CLOCKS[clock]
        self._start = self._now() - seconds

    @property
    def timed(self) -> bool:
        """Whether training is limited by time, not by steps."""
        return self.limit > 0

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._now() - self._start

    def fraction(self, step: int) -> float:
        """Return the fraction of training done after ``step`` steps; 1 if no other step fits in."""
        if not self.timed:
            # The middle of the next step: at its start, a warm-up would have a first step at rate
            # 0; at its end, a decay would have a last one at rate 0.
            return (step + 0.5) / self.steps if step < self.steps else 1.0
        end = self.limit - self.reserve
        now = self.seconds
        if step == 0:
            self.prelude = now
        return (now - self.prelude) / (end - self.prelude) if now + self.pace < end else 1.0

    def has_room(self) -> bool:
        """Return whether there is time for a validation now and another at the end."""
        return not self.timed or self.seconds + 2 * self.reserve < self.limit

    def note_before_validation(self, validation: float) -> str:
        """Return a note where validations will take most of the time; otherwise an empty string.

        One is made before the first step and one at the end.

        Args:
            validation: the estimated seconds of a validation.
        """
        left = self.limit - self.seconds - 2 * validation
        if left > (1 - MOST_SHARE) * self.limit:
            return ""
        rest = "no time to train" if left <= 0 else f"about {_duration(left)} to train"
        return (
            f"a validation takes about {_duration(validation)}, and one comes before the first "
            f"step and one at the end: {self._words} leave {rest}; give more --minutes, now or "
            "with --resume"
        )

    def note_after_step(self, step: int) -> str:
        """Return a note where the time holds few steps; otherwise an empty string.

        The steps to come are taken to last as long as the last one.
        """
        left = self.limit - self.reserve - self.seconds
        steps = step + max(0, int(left / self.pace)) if self.pace > 0 else FEW_STEPS
        if steps >= FEW_STEPS:
            return ""
        return (
            f"{self._words} hold about {steps} steps; a validation takes "
            f"{_duration(self.reserve)}; give more --minutes with --resume"
        )

    def words_without_step(self) -> str:
        """Return what to say where no step fits into the time, or no validation before it."""
        validation = f": a validation takes {_duration(self.reserve)}" if self.reserve else ""
        return (
            f"{self._words} leave no time to train{validation}; give more --minutes with --resume"
        )

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
