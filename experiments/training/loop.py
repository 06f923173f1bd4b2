"""``fit``: the training loop of every command.

All random numbers depend on the seed and on the position where they are drawn (step and
micro-batch, or validation). No generator is saved, therefore: a resumed run draws the numbers of an
uninterrupted one, and a validation has no effect on training.
"""

import time
from collections import deque
from typing import Generic

import torch

from experiments.training.budget import SHORTEST, Budget, Spent
from experiments.training.checkpoints import Checkpoints
from experiments.training.distributed import join
from experiments.training.gradient_steps import GradientSteps
from experiments.training.optimizers import Build, build
from experiments.training.progress_bar import Bar
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.state import State
from experiments.training.step import Stepped, Steps, Stream
from experiments.training.stopping import Interrupted, StopRequest
from experiments.training.streams import lasting_streams
from experiments.training.task import Batch, Item, Progress, Task
from experiments.training.threads import threads_of_run
from experiments.training.tracking import TRACKERS
from experiments.training.units import units_of
from experiments.training.validator import Validator
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.run_folder import LAST

__all__ = ["fit", "fit_task"]

TIMED_STEPS = 3  # after which the number of steps is estimated: the first ones are slower
REPORTED_ROWS = 5  # rows of metrics in ERROR.json


def fit(
    steps: Steps[Item], settings: Settings, run: Run, *, validates_first: bool = False
) -> JsonObject:
    """Repeat ``steps`` until the budget of ``settings`` is used up, and save all in the run folder.

    PyTorch's number of threads is that of the caller, not ``settings.threads``.

    With ``settings.resume`` training continues from ``checkpoints/last``, to the same weights, bit
    for bit, on the same machine with the same number of threads and processes, unless time
    limits it. Each validation comes after a checkpoint. It runs in full precision, on the moving
    average of the weights if there is one; with a time limit or ``validates_first`` there is one
    before the first step. The module ends with the weights of the last step; ``run.checkpoint()``
    has the best.

    Returns:
        ``steps``, ``seconds`` and the metrics of the last validation.

    Raises:
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP; the step was finished and saved.
        TrainingFailed: the loss or its gradient is not finite; see ``ERROR.json``.
        InputError: the program of ``settings.track`` is not installed.
    """
    TRACKERS[settings.track].require()  # before anything of a resumed run changes
    with lasting_streams(), StopRequest() as stop, run.locked():
        loop = _Loop(steps, settings, run, validates_first=validates_first)
        try:
            with run.tracked(settings.track, loop.state.step):
                return loop.run_until_done(stop)
        except InputError:
            raise
        except Exception as error:
            run.fail(loop.failure(error))
            raise
        finally:
            loop.bar.close()


def fit_task(
    task: Task[Item, Batch], settings: Settings, run: Run, build: Build = build
) -> JsonObject:
    """Minimise the loss of ``task`` on the processes that ``torchrun`` started; see :func:`fit`.

    The result is written to ``DONE``.
    """
    # without a number, that of the process, which the environment of a new run already holds
    threads = settings.threads or (0 if settings.resume else torch.get_num_threads())
    resumed = run.path if settings.resume else None
    with join(settings.device) as world, threads_of_run(threads, resumed, world):
        result = fit(GradientSteps(task, settings, world, build), settings, run)
        run.finish(result)
        return result


class _Loop(Generic[Item]):
    def __init__(
        self, steps: Steps[Item], settings: Settings, run: Run, *, validates_first: bool
    ) -> None:
        self.steps = steps
        self.settings = settings
        self.validates_first = validates_first
        self.world = steps.world
        self.run = run
        self.stream = Stream(steps.task)
        self.module = steps.task.module.train()
        self.checkpoints = Checkpoints(steps, settings, run)
        self.state = self.checkpoints.state
        # step and step of the last validation, as saved; None: nothing is saved
        self.saved = self._position() if self.state.step else None
        self.seconds_of_save = 0.0  # that the last checkpoint took
        self.budget = _budget(settings, self.state, compares=validates_first)
        self._restart_speed()
        self.bar = Bar(self.world.first, units_of(steps.task), self.budget.steps)
        self.validator = Validator(self.checkpoints, self.budget, self.bar, settings.seed)

    def run_until_done(self, stop: StopRequest) -> JsonObject:
        """Take steps, validate and save until the budget is used up."""
        self.validator.size(stop)
        while True:
            must_stop, fraction, has_room = self._agree(stop)
            if must_stop:
                if self.saved != self._position():
                    self._save_last()
                step = self.state.step
                raise Interrupted(f"interrupted after step {step}; continue with --resume")
            if self.state.complete:
                return self._finish()
            if fraction >= 1:
                self._require_steps()
                if self.state.validated == self.state.step:
                    return self._finish()
            if fraction >= 1 or (self._validation_due() and has_room):
                if self._steps_unsaved():
                    # A validation may take long, and a scheduler may not wait for its end.
                    self._save_last()
                else:
                    self._validate(stop)
            elif self._checkpoint_due():
                self._save_last()
            else:
                self._step(Progress(self.state.step, fraction))

    def failure(self, error: Exception) -> JsonObject:
        """Return the content of ``ERROR.json``: error, position, and the last rows of metrics."""
        report: JsonObject = {
            "error": f"{type(error).__name__}: {error}",
            "step": self.state.step,
            "epoch": self.state.epoch,
            "offset": self.state.offset,
        }
        if self.world.first:
            report["rows"] = list(deque(self.run.each_row(), maxlen=REPORTED_ROWS))
        return {**report, **getattr(error, "report", {})}

    def _validate(self, stop: StopRequest) -> None:
        """Validate, and note how long that takes with a checkpoint."""
        budget = self.budget
        is_first = self.state.validated < 0
        start = budget.seconds
        self.validator.validate(stop)
        took = budget.seconds - start + self.seconds_of_save
        # the first one replaces an estimate
        budget.reserve = took if is_first else max(budget.reserve, took)
        budget.validating += took if budget.timed else 0.0
        self._restart_speed()  # the clock is read again before the next step

    def _step(self, progress: Progress) -> None:
        self.run.has_trained = True
        start = self.budget.seconds
        items, epoch, offset = self.stream.take(
            self.state.epoch, self.state.offset, self.steps.batches
        )
        stepped = self.steps.step(items, progress)
        if self.checkpoints.average:
            self.checkpoints.average.update()
        self.state.advance(epoch, offset, stepped.sums)
        if self.state.step % self.settings.log_every == 0:
            self._log(stepped)
        self.budget.pace = self.budget.seconds - start
        if self.budget.timed and self.state.step == TIMED_STEPS:
            self.bar.write_note(self.budget.note_after_step(TIMED_STEPS))
        self._print_progress(stepped, progress.fraction)

    def _log(self, stepped: Stepped) -> None:
        """Write the means since the last row of ``metrics.jsonl``."""
        weight = self.state.window.pop("weight")
        means = {name: value / weight for name, value in self.state.window.items()}
        elapsed = time.perf_counter() - self.speed_start
        numbers = {
            "loss": means.pop("loss"),
            "lr": stepped.rate,
            "gradient_norm": stepped.gradient_norm,
            **means,
            **self.steps.step_sizes(),
        }
        self.run.log(
            "train",
            self.state.step,
            **numbers,
            tokens_per_second=(weight - self.speed_start_weight) / max(elapsed, SHORTEST),
            seconds=self.budget.seconds,
        )
        self.state.window = {}
        self._restart_speed()

    def _restart_speed(self) -> None:
        """Measure the speed from now on, so that validations do not lower it."""
        self.speed_start = time.perf_counter()
        self.speed_start_weight = self.state.window.get("weight", 0.0)

    def _require_steps(self) -> None:
        """Raise InputError where no step fits into the time; the run can be given more."""
        if self.state.step > 0:
            return
        self._save_last()
        raise InputError(self.budget.words_without_step())

    def _finish(self) -> JsonObject:
        if not self.state.complete:
            self.state.complete = True
            self._save_last()
        counts = {"steps": self.state.step, "seconds": round(self.state.seconds, 3)}
        return {**counts, **self.state.validation}

    def _save_last(self) -> None:
        start = self.budget.seconds
        self.saved = self._position()
        self.run.has_trained = True
        self.checkpoints.save(LAST, self.budget)
        self.seconds_of_save = self.budget.seconds - start

    def _position(self) -> tuple[int, int]:
        return self.state.step, self.state.validated

    def _steps_unsaved(self) -> bool:
        """Return whether steps were taken since the last checkpoint."""
        return self.state.step > (self.saved[0] if self.saved else 0)

    def _agree(self, stop: StopRequest) -> tuple[bool, float, bool]:
        """Return whether to stop, the fraction done, and whether there is time to validate.

        The result is the same on all processes, whose clocks differ and which receive signals at
        different times: it follows the clock of the first process, and a signal to any of them.
        """
        clock = [0.0, 0.0]
        if self.world.first:
            step = self.state.step
            has_room = self.budget.has_room(step) or (step == 0 and self.validates_first)
            clock = [self.budget.fraction(step), float(has_room)]
        stop_count, fraction, room = self.world.total([stop.requested, *clock])
        return stop_count > 0, fraction, room > 0

    def _validation_due(self) -> bool:
        step = self.state.step
        if step == 0:  # with a time budget, to measure how long the last one will take
            return (self.budget.timed or self.validates_first) and self.state.validated < 0
        return _is_multiple(step, self.settings.validate_every) and self.state.validated != step

    def _checkpoint_due(self) -> bool:
        is_due = _is_multiple(self.state.step, self.settings.checkpoint_every)
        return is_due and self._steps_unsaved()

    def _print_progress(self, stepped: Stepped, fraction: float) -> None:
        weight = stepped.sums["weight"]
        speed = weight / max(self.budget.pace, SHORTEST)
        elapsed = self.budget.seconds - self.budget.prelude
        remaining = elapsed * (1 - fraction) / max(fraction, SHORTEST)
        self.bar.update(fraction, self.state.step, stepped.sums["loss"] / weight, speed, remaining)


def _budget(settings: Settings, state: State, *, compares: bool) -> Budget:
    """Return the budget of a new or resumed training; ``compares``: see :class:`Budget`."""
    return Budget(
        settings.steps,
        settings.minutes,
        settings.time_limit,
        clock=settings.clock,
        compares=compares,
        spent=Spent(state.seconds, state.reserve, state.prelude, state.validating),
    )


def _is_multiple(step: int, interval: int) -> bool:
    """Return whether a step ends an interval; an interval of 0 never ends."""
    return interval > 0 and step % interval == 0
