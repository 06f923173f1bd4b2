"""The validations of a training: measured in the first process, logged, and compared.

A validation has no effect on training. A request to stop ends it, and a resumed run repeats it.
Where time limits training, all validations take as many rows as fit into their share of it, which
is chosen before the first.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import torch

from experiments.training.budget import SHORTEST, Budget
from experiments.training.checkpoints import Checkpoints
from experiments.training.progress_bar import Bar
from experiments.training.stopping import Interrupted, StopRequest
from experiments.training.task import (
    Item,
    Progress,
    ShowingTask,
    SizedTask,
    evaluating,
    reseed,
)
from univae.checkpoint import JsonObject, to_json
from univae.run_folder import BEST

__all__ = ["Validator"]

Result = TypeVar("Result")

MOST_ROWS = 10**9
PROBED_SHARE = 8  # of the rows of a validation, which a probe of its time takes at most


class Validator(Generic[Item]):
    """Validates a run, and saves the best weights.

    Args:
        checkpoints: of the run, with its steps and its position in training.
        budget: of training, which includes its validations.
        bar: prints the metrics.
        seed: of the noise of validations.
    """

    def __init__(self, checkpoints: Checkpoints[Item], budget: Budget, bar: Bar, seed: int) -> None:
        self.checkpoints = checkpoints
        self.steps = checkpoints.steps
        self.task = checkpoints.steps.task
        self.world = checkpoints.steps.world
        self.state = checkpoints.state
        self.budget = budget
        self.bar = bar
        self.seed = seed

    def validate(self, stop: StopRequest) -> None:
        """Validate in the first process, and return in all once that has ended.

        Where a signal ends it, ``stop`` is requested and nothing is recorded.
        """
        if self._until_all_are_done(stop, self._validate):
            self.state.validated = self.state.step

    def size(self, stop: StopRequest) -> None:
        """Choose the rows of all validations before the first step, where time limits training."""
        state = self.state
        if self.budget.timed and not (state.step or state.validation_rows or state.complete):
            self._until_all_are_done(stop, self._size)

    def _until_all_are_done(self, stop: StopRequest, work: Callable[[], None]) -> bool:
        """Do some work, and return in all processes once it has ended.

        Returns:
            whether no signal ended it in this process.
        """
        is_done = True
        try:
            work()
        except Interrupted:
            stop.request()  # all processes stop together, once they have agreed
            is_done = False
        self.world.wait()
        return is_done

    def _validate(self) -> None:
        """Validate in the first process, and save the weights if they are the best so far."""
        if self.steps.saves_together:
            self._validate_divided()
        elif self.world.first:
            improved = self._record(to_json(self._evaluated(self._measure)))
            self._show()
            if improved:
                self.checkpoints.save(BEST, self.budget)

    def _show(self) -> None:
        """Let a tracker show what the model makes of held-out data."""
        task = self.task
        run = self.checkpoints.run
        if run.shows_models and isinstance(task, ShowingTask):
            run.show(self.state.step, self._evaluated(task.shown))

    def _validate_divided(self) -> None:
        """Validate in the first process, for which all of them gather the weights.

        Raises:
            Interrupted: in all processes, where a signal ended it in the first one.
        """
        metrics: JsonObject | None = None
        with suppress(Interrupted):  # the request of the block around it has been handed it
            metrics = self._evaluated(self._measure if self.world.first else dict)
        (is_measured,) = self.world.first_decides([metrics is not None])
        if not is_measured:
            raise Interrupted("interrupted")
        improved = self.world.first and self._record(to_json(metrics))
        (improved,) = self.world.first_decides([improved])
        if improved:
            self.checkpoints.save(BEST, self.budget)

    def _measure(self) -> JsonObject:
        step = self.state.step
        progress = Progress(step, self.budget.fraction(step))
        rows = self.state.validation_rows
        if not rows or not isinstance(self.task, SizedTask) or rows >= self.task.validation_rows:
            return self.task.validate(progress)
        metrics = self.task.validate_rows(progress, rows)
        note = (
            f"validations take {rows:,} of {self.task.validation_rows:,} "
            f"{self.bar.units.plural}, which is what fits into their share of the time"
        )
        return {**metrics, "notes": [*metrics.get("notes", []), note]}

    def _evaluated(self, measure: Callable[[], Result]) -> Result:
        """Return what a function measures of the averaged weights, in evaluation mode."""
        module = self.task.module
        with (
            self.checkpoints.averaged_weights(),
            self.steps.whole_weights(),
            evaluating(module),
            torch.no_grad(),
        ):
            # The same noise in every validation, so that differences are those of the weights.
            reseed(self.seed, "validation")
            with StopRequest(at_once=True):  # innermost: the blocks around it restore the weights
                return measure()

    def _record(self, metrics: JsonObject) -> bool:
        """Log the metrics of a validation, and return whether they are the best so far."""
        step = self.state.step
        self.checkpoints.run.log("validation", step, **metrics, seconds=self.budget.seconds)
        improved = self.state.add_validation(metrics)
        self.bar.write_validation(step, metrics, improved=improved)
        self.state.validated = step
        return improved

    def _size(self) -> None:
        """Choose the rows of validations by the time of a few rows, and reserve their time.

        The first process does. Not of divided weights, which all processes would have to gather.
        """
        task = self.task
        if self.steps.sharded or not self.world.first or not isinstance(task, SizedTask):
            return
        start = self.budget.seconds
        few = task.fewest_rows
        probed = few
        seconds = self._seconds_of(task, few)
        more = min(self._rows_within(seconds / few), task.validation_rows // PROBED_SHARE)
        if more > few:  # the first rows are slower
            probed = more
            seconds = self._seconds_of(task, more)
        rows = self._rows_within(seconds / probed)
        self.state.validation_rows = min(max(rows, few), task.validation_rows)
        self.budget.reserve = self.state.validation_rows * seconds / probed
        self.budget.validating += self.budget.seconds - start
        self.bar.write_note(self.budget.note_before_training())

    def _seconds_of(self, task: SizedTask, rows: int) -> float:
        """Return the time that a validation of some rows takes."""
        start = self.budget.seconds
        self._evaluated(lambda: task.validate_rows(Progress(0, 0.0), rows))
        return self.budget.seconds - start

    def _rows_within(self, seconds_per_row: float) -> int:
        """Return the rows of which a validation takes the time that it may take."""
        most = self.budget.seconds_per_validation
        return int(min(most / max(seconds_per_row, SHORTEST), MOST_ROWS))
