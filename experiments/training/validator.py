"""The validations of a training: measured in the first process, logged, and compared.

A validation has no effect on training. A request to stop ends it, and a resumed run repeats it.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from experiments.training.budget import Budget
from experiments.training.checkpoints import Checkpoints
from experiments.training.progress_bar import Bar
from experiments.training.stopping import Interrupted, StopRequest
from experiments.training.task import Item, ProbedTask, Progress, evaluating, reseed
from univae.checkpoint import JsonObject, to_json
from univae.run_folder import BEST

__all__ = ["Validator"]

Result = TypeVar("Result")


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
        try:
            if self.world.first:
                self._note_long_validation()
            start = self.budget.seconds
            if self.steps.sharded:
                self._validate_divided(stop)
            elif self.world.first and self._record(to_json(self._evaluated(self._measure))):
                self.checkpoints.save(BEST, self.budget)
            self.state.validated = self.state.step
            self.budget.reserve = max(self.budget.reserve, self.budget.seconds - start)
        except Interrupted:
            stop.request()  # all processes stop together, once they have agreed
        self.world.wait()

    def _validate_divided(self, stop: StopRequest) -> None:
        """Validate in the first process, for which all of them gather the weights.

        Raises:
            Interrupted: in all processes, where a signal ended it in the first one.
        """
        metrics: JsonObject | None = None
        try:
            metrics = self._evaluated(self._measure if self.world.first else dict)
        except Interrupted:
            stop.request()
        (is_measured,) = self.world.first_decides([metrics is not None])
        if not is_measured:
            raise Interrupted("interrupted")
        improved = self.world.first and self._record(to_json(metrics))
        (improved,) = self.world.first_decides([improved])
        if improved:
            self.checkpoints.save(BEST, self.budget)

    def _measure(self) -> JsonObject:
        step = self.state.step
        return self.task.validate(Progress(step, self.budget.fraction(step)))

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

    def _note_long_validation(self) -> None:
        """Print a note where the first validations will take most of the time."""
        task = self.task
        if self.state.validated >= 0 or not self.budget.timed or not isinstance(task, ProbedTask):
            return
        if self.steps.sharded:  # the other processes would have to gather the weights for it, too
            return
        start = self.budget.seconds
        share = self._evaluated(task.probe)
        estimate = (self.budget.seconds - start) / share
        self.bar.write_note(self.budget.note_before_validation(estimate))
