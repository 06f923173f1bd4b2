"""How much of training is done: counted in steps, or by a clock."""

import time
from typing import Literal, TypeAlias

__all__ = ["Budget", "Clock"]

Clock: TypeAlias = Literal["wall", "processor"]


class Budget:
    """The clock of a run; resumed, it goes on from ``seconds``.

    A ``wall`` clock says what one waits for; a ``processor`` clock adds the time that this process
    kept each core busy, and stands still while others have them, so that runs side by side get
    equal shares.

    With ``minutes`` the steps count for nothing, and training ends early enough for one more
    validation and checkpoint, which have taken ``reserve`` seconds at most so far. The fraction
    counts from the first step, which started after ``prelude`` seconds: a validation before it must
    not use up the warm-up.
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
        self.limit = 60.0 * minutes
        self.reserve = reserve
        self.prelude = prelude
        self.pace = 0.0  # seconds the last step took
        self.clock = clock
        self._started = self._now() - seconds

    def _now(self) -> float:
        return time.perf_counter() if self.clock == "wall" else time.process_time()

    @property
    def timed(self) -> bool:
        """Whether the clock decides."""
        return self.limit > 0

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._now() - self._started

    def fraction(self, step: int) -> float:
        """The fraction done after ``step`` steps; 1 if there is no room for another."""
        if not self.timed:
            # The middle of the step to come: no warm-up wastes its first at a rate of 0, no decay
            # its last.
            return (step + 0.5) / self.steps if step < self.steps else 1.0
        end = self.limit - self.reserve
        now = self.seconds
        if step == 0:
            self.prelude = now
        return (now - self.prelude) / (end - self.prelude) if now + self.pace < end else 1.0

    def has_room(self) -> bool:
        """Whether there is time for a validation now and another at the end."""
        return not self.timed or self.seconds + 2 * self.reserve < self.limit
