"""``fit``: the training loop of every command.

All random numbers depend on the seed and on the position where they are drawn (step and
micro-batch, or validation). No generator is saved, therefore: a resumed run draws the numbers of an
uninterrupted one, and a validation has no effect on training.
"""

import time
from typing import Generic

import torch

from experiments.training.budget import Budget
from experiments.training.checkpoints import Checkpoints
from experiments.training.distributed import join
from experiments.training.gradient_steps import GradientSteps
from experiments.training.optimizers import Build, build
from experiments.training.progress_bar import Bar
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.step import Stepped, Steps, Stream
from experiments.training.stopping import Interrupted, StopRequest
from experiments.training.task import Batch, Item, Progress, Task
from experiments.training.units import units_of
from experiments.training.validator import Validator
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.run_folder import LAST

__all__ = ["fit", "fit_task"]

SHORTEST = 1e-9  # seconds, for divisions by a measured time
TIMED_STEPS = 3  # after which the number of steps is estimated: the first ones are slower
REPORTED_ROWS = 5  # rows of metrics in ERROR.json


def fit(
    steps: Steps[Item], settings: Settings, run: Run, *, validates_first: bool = False
) -> JsonObject:
    """Repeat ``steps`` until the budget of ``settings`` is used up, and save all in the run folder.

    With ``settings.resume`` training continues from ``checkpoints/last``, to the same weights, bit
    for bit, on the same machine with the same number of threads and processes, unless ``minutes``
    limits it. Validation runs in full precision, on the moving average of the weights if there is
    one; with a time limit or ``validates_first`` also before the first step. The module ends with
    the weights of the last step; ``run.checkpoint()`` has the best.

    Returns:
        ``steps``, ``seconds`` and the metrics of the last validation.

    Raises:
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP; the step was finished and saved.
        TrainingFailed: the loss or its gradient is not finite; see ``ERROR.json``.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with StopRequest() as stop, run.locked():
        loop = _Loop(steps, settings, run, validates_first=validates_first)
        try:
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
    with join(settings.device) as world:
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
        self.saved_step = self.state.step
        self.budget = Budget(
            settings.steps,
            settings.minutes,
            self.state.seconds,
            self.state.reserve,
            self.state.prelude,
            settings.clock,
        )
        self._restart_speed()
        total = 0 if self.budget.timed else settings.steps
        self.bar = Bar(self.world.first, units_of(steps.task), total)
        self.validator = Validator(self.checkpoints, self.budget, self.bar, settings.seed)

    def run_until_done(self, stop: StopRequest) -> JsonObject:
        """Take steps, validate and save until the budget is used up."""
        while True:
            must_stop, fraction, has_room = self._agree(stop)
            if must_stop:
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
                self.validator.validate(stop)
                self._restart_speed()  # the clock is read again before the next step
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
            report["rows"] = self.run.rows()[-REPORTED_ROWS:]
        return {**report, **getattr(error, "report", {})}

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
        self.saved_step = self.state.step
        self.run.has_trained = True
        self.checkpoints.save(LAST, self.budget)

    def _agree(self, stop: StopRequest) -> tuple[bool, float, bool]:
        """Return whether to stop, the fraction done, and whether there is time to validate.

        The result is the same on all processes, whose clocks differ and which receive signals at
        different times: it follows the clock of the first process, and a signal to any of them.
        """
        clock = [0.0, 0.0]
        if self.world.first:
            clock = [self.budget.fraction(self.state.step), float(self.budget.has_room())]
        stop_count, fraction, has_room = self.world.total([stop.requested, *clock])
        return stop_count > 0, fraction, has_room > 0

    def _validation_due(self) -> bool:
        step = self.state.step
        if step == 0:  # with a time budget, to measure how long the last one will take
            return (self.budget.timed or self.validates_first) and self.state.validated < 0
        return _is_multiple(step, self.settings.validate_every) and self.state.validated != step

    def _checkpoint_due(self) -> bool:
        step = self.state.step
        return _is_multiple(step, self.settings.checkpoint_every) and self.saved_step != step

    def _print_progress(self, stepped: Stepped, fraction: float) -> None:
        weight = stepped.sums["weight"]
        speed = weight / max(self.budget.pace, SHORTEST)
        elapsed = self.budget.seconds - self.budget.prelude
        remaining = elapsed * (1 - fraction) / max(fraction, SHORTEST)
        self.bar.update(fraction, self.state.step, stepped.sums["loss"] / weight, speed, remaining)


def _is_multiple(step: int, interval: int) -> bool:
    """Return whether a step ends an interval; an interval of 0 never ends."""
    return interval > 0 and step % interval == 0
