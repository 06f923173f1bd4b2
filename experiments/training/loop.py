"""``fit``: the only training loop.

Everything random is a function of the seed and of the place where it is drawn (step and
micro-batch, or validation), so there is no generator to save: a resumed run draws what an
uninterrupted one draws, and a validation disturbs nothing.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict

import torch

from experiments.training.budget import Budget
from experiments.training.distributed import join
from experiments.training.gradient_steps import GradientSteps
from experiments.training.optimizers import Build, build
from experiments.training.progress_bar import Bar
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.state import State
from experiments.training.step import Stepped, Steps, Stream
from experiments.training.stopping import Interrupted, StopRequest
from experiments.training.task import Progress, Task, evaluating, reseed
from univae.checkpoint import (
    JsonObject,
    existing_folder,
    fill_weights,
    load_state,
    load_weights,
    read_json,
    save_state,
    save_weights,
    to_json,
    write_json,
)
from univae.errors import InputError
from univae.optim.ema import EMA
from univae.rules import reading

__all__ = ["fit", "fit_task"]

LAST = "last"  # the checkpoint that a run resumes from
SHORTEST = 1e-9  # seconds, for divisions by a measured time


def fit(steps: Steps, settings: Settings, run: Run) -> JsonObject:
    """Repeat ``steps`` until the budget of ``settings`` is used up, and save all in the run folder.

    With ``settings.resume`` it continues from ``checkpoints/last``: to the same weights, bit for
    bit, on the same machine with the same number of threads and processes - unless ``minutes``
    bounds the run, for then the schedule follows the clock. A run that stopped before its first
    checkpoint starts again.

    Validation runs in full precision, on the moving average of the weights if there is one. The
    task's module is left with the weights of the last step: open ``run.checkpoint()`` to use those
    that validated best.

    Returns:
        ``steps``, ``seconds`` and what the last validation returned.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; the step was finished and saved.
        TrainingFailed: the loss or its gradient is not finite; ``ERROR.json`` says where.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with StopRequest() as stop, run.locked():
        loop = _Loop(steps, settings, run)
        try:
            return loop.run_until_done(stop)
        except InputError:
            raise
        except Exception as error:
            cause = {"error": f"{type(error).__name__}: {error}"}
            run.fail({**cause, **loop.position(), **getattr(error, "report", {})})
            raise
        finally:
            loop.bar.close()


def fit_task(task: Task, settings: Settings, run: Run, build: Build = build) -> JsonObject:
    """Descend the loss of ``task``, on as many processes as ``torchrun`` started: :func:`fit`."""
    with join(settings.device) as world:
        return fit(GradientSteps(task, settings, world, build), settings, run)


class _Loop:
    def __init__(self, steps: Steps, settings: Settings, run: Run) -> None:
        self.steps = steps
        self.settings = settings
        self.world = steps.world
        self.run = run
        self.stream = Stream(steps.task)
        self.module = steps.task.module.train()
        self.state = State(processes=self.world.size)
        self.ema: EMA | None = None
        self._begin()
        self.saved = self.state.step  # the step of the last checkpoint
        self.budget = Budget(
            settings.steps,
            settings.minutes,
            self.state.seconds,
            self.state.reserve,
            self.state.prelude,
            settings.clock,
        )
        self._restart_speed()
        self.bar = Bar(self.world.first)

    def run_until_done(self, stop: StopRequest) -> JsonObject:
        """Take steps, validate and save until the budget is used up."""
        while True:
            stop_asked, fraction, has_room = self._agree(stop)
            if stop_asked:
                self._save(LAST)
                step = self.state.step
                raise Interrupted(f"interrupted after step {step}; continue with --resume")
            if fraction >= 1 or self.state.complete:
                return self._finish()
            if self._validation_due() and has_room:
                self._validate()  # which takes time: the clock is read again before a step
            elif self._checkpoint_due():
                self._save(LAST)
            else:
                self._step(Progress(self.state.step, fraction))

    def position(self) -> JsonObject:
        """Return the step, the place in the epoch and the last rows of the log, for a report."""
        place = {"step": self.state.step, "epoch": self.state.epoch, "offset": self.state.offset}
        return place | {"rows": self.run.rows()[-5:]} if self.world.first else place

    def _step(self, progress: Progress) -> None:
        self.run.has_trained = True
        started = self.budget.seconds
        items, epoch, offset = self.stream.take(
            self.state.epoch, self.state.offset, self.steps.batches
        )
        stepped = self.steps.step(items, progress)
        if self.ema:
            self.ema.update()
        self.state.advance(epoch, offset, stepped.sums)
        if self.state.step % self.settings.log_every == 0:
            self._log(stepped)
        self.budget.pace = self.budget.seconds - started
        self._show(stepped, progress.fraction)

    def _log(self, stepped: Stepped) -> None:
        """Write the means since the last row of ``metrics.jsonl``."""
        weight = self.state.window.pop("weight")
        means = {name: value / weight for name, value in self.state.window.items()}
        elapsed = time.perf_counter() - self.logged_at
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
            tokens_per_second=(weight - self.logged_weight) / max(elapsed, SHORTEST),
            seconds=self.budget.seconds,
        )
        self.state.window = {}
        self._restart_speed()

    def _restart_speed(self) -> None:
        """Measure the speed from here on; a validation does not slow it."""
        self.logged_at = time.perf_counter()
        self.logged_weight = self.state.window.get("weight", 0.0)

    def _validate(self) -> None:
        started = self.budget.seconds
        improved = False
        if self.world.first:
            numbers = to_json(self._measure())
            self.run.log("validation", self.state.step, **numbers, seconds=self.budget.seconds)
            improved = self.state.judge(numbers)
            self._show_validation(numbers, improved)
        self.state.validated = self.state.step
        if improved:
            self._save("best")
        self.budget.reserve = max(self.budget.reserve, self.budget.seconds - started)
        self._restart_speed()
        self.world.wait()

    def _measure(self) -> JsonObject:
        with self._weights_to_keep(), evaluating(self.module), torch.no_grad():
            # The same noise at every validation, so that differences are the model's.
            reseed(self.settings.seed, "validation")
            step = self.state.step
            return self.steps.task.validate(Progress(step, self.budget.fraction(step)))

    def _show_validation(self, numbers: JsonObject, improved: bool) -> None:
        selection = numbers["selection"]
        value = f"{selection:.4f}" if selection is not None else "not finite"
        best = ", the best so far" if improved else ""
        self.bar.say(f"step {self.state.step}: validation {value}{best}")
        for note in numbers.get("notes", []):
            self.bar.say(f"note: {note}")

    def _finish(self) -> JsonObject:
        if self.state.step == 0:
            raise InputError(
                f"minutes={self.settings.minutes:g} leave no time to train: validation takes "
                f"{self.budget.reserve:.0f} s; give more, or a number of steps"
            )
        if self.state.validated != self.state.step:
            self._validate()
        if not self.state.complete:
            self.state.complete = True
            self._save(LAST)
        counts = {"steps": self.state.step, "seconds": round(self.state.seconds, 3)}
        result = {**counts, **self.state.validation}
        self.run.finish(result)
        return result

    def _save(self, name: str) -> None:
        """Write the checkpoint ``last``, from which a run resumes, or ``best``."""
        if name == LAST:
            self.saved = self.state.step
            self.run.has_trained = True
        if not self.world.first:
            return
        self.state.seconds = self.budget.seconds
        self.state.reserve = self.budget.reserve
        self.state.prelude = self.budget.prelude
        self.state.rows = self.run.count_rows()
        with self.run.saving(name) as folder:
            with self._weights_to_keep():
                save_weights(self.module, folder / "model.safetensors")
            training = self.steps.state_dict()
            if self.ema:
                training |= {"weights": self.module.state_dict(), "updates": self.ema.updates}
            save_state(training, folder / "optimizer.pt")
            write_json(folder / "state.json", asdict(self.state))

    def _begin(self) -> None:
        """Start from the weights as they are, or from the last checkpoint of a resumed run."""
        folder = None
        if self.settings.resume:
            folder = existing_folder(self.run.path / "checkpoints" / LAST)
        if folder is not None:
            values = read_json(folder / "state.json")
            training = load_state(folder / "optimizer.pt")
            with reading(folder / "state.json"):
                self.state = State(**values)
            self._require_processes()
            load_weights(self.module, folder / "model.safetensors")
        if self.settings.ema:
            self.ema = EMA(self.steps.averaged, self.settings.ema)
        if folder is not None:
            if self.ema:  # it holds the saved weights, which are the average
                self.ema.updates = training.get("updates", 0)
                fill_weights(self.module, training.get("weights"), folder / "optimizer.pt")
            self.steps.load_state_dict(training, self.state.step)
            self.world.wait()  # barrier: the others may still be reading when rank 0 writes
        if self.settings.resume:
            self.run.record_resume()
        self.run.truncate_rows(self.state.rows)

    def _require_processes(self) -> None:
        """Raise InputError where a resumed run was trained by another number of processes."""
        before = self.state.processes
        now = self.world.size
        if before != now:
            raise InputError(
                f"{self.run.path} was trained by {before} processes, now there are {now}; "
                f"resume with torchrun --nproc-per-node {before}"
            )

    def _agree(self, stop: StopRequest) -> tuple[bool, float, bool]:
        """Return, alike on all processes, whether to stop, the fraction done, and room to validate.

        Clocks differ and signals come at different times: the clock of the first process counts,
        and a signal to any of them.
        """
        clock = [0.0, 0.0]
        if self.world.first:
            clock = [self.budget.fraction(self.state.step), float(self.budget.has_room())]
        stop_asked, fraction, room = self.world.total([stop.asked, *clock])
        return stop_asked > 0, fraction, room > 0

    def _validation_due(self) -> bool:
        step = self.state.step
        every = self.settings.validate_every
        if step == 0:  # with a time budget, to learn how long the last one will take
            return self.budget.timed and self.state.validated < 0
        return every > 0 and step % every == 0 and self.state.validated != step

    def _checkpoint_due(self) -> bool:
        step = self.state.step
        every = self.settings.checkpoint_every
        return every > 0 and step % every == 0 and self.saved != step

    def _show(self, stepped: Stepped, fraction: float) -> None:
        weight = stepped.sums["weight"]
        speed = weight / max(self.budget.pace, SHORTEST)
        elapsed = self.budget.seconds - self.budget.prelude
        remaining = elapsed * (1 - fraction) / max(fraction, SHORTEST)
        self.bar.show(fraction, self.state.step, stepped.sums["loss"] / weight, speed, remaining)

    def _weights_to_keep(self) -> AbstractContextManager[object]:
        """Inside the block the module has the weights that are validated and saved."""
        return self.ema.swapped() if self.ema else nullcontext()
