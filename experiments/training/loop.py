"""``fit``: the only training loop.

Everything random is a function of the seed and of the place where it is drawn (step and
micro-batch, or validation), so there is no generator to save: a resumed run draws what an
uninterrupted one draws, and validation disturbs nothing.
"""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch

from experiments.training.budget import Budget
from experiments.training.distributed import join
from experiments.training.gradient_steps import GradientSteps
from experiments.training.optimizers import Build, build
from experiments.training.progress_bar import Bar
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
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
from univae.rules import Rule, at_least, check, reading

__all__ = ["fit", "fit_task"]


def fit(steps: Steps, settings: Settings, run: Run) -> JsonObject:
    """Repeat ``steps`` until ``settings`` say that training is done, and save all in the run folder.

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
    """Descend the loss of ``task``, on as many processes as ``torchrun`` started: see :func:`fit`."""
    with join(settings.device) as world:
        return fit(GradientSteps(task, settings, world, build), settings, run)


@dataclass
class _State:
    """What a checkpoint holds besides tensors."""

    step: int = 0
    epoch: int = 0
    offset: int = 0  # micro-batches of the epoch already used, over all processes
    seconds: float = 0.0
    reserve: float = 0.0  # the longest a validation and its checkpoint took, in seconds
    prelude: float = 0.0  # seconds before the first step
    complete: bool = False
    processes: int = 1
    rows: int = 0  # of metrics.jsonl
    best: float | None = None
    validated: int = -1  # the step validated last
    validation: JsonObject = field(default_factory=dict)
    # sums since the last row of metrics.jsonl
    window: dict[str, float] = field(default_factory=dict)

    RULES: ClassVar[Mapping[str, Rule]] = {
        **dict.fromkeys(("step", "epoch", "offset", "rows"), at_least(0)),
        **dict.fromkeys(("seconds", "reserve", "prelude"), at_least(0, 1e12)),
        "processes": at_least(1, 10**6),
        "validated": at_least(-1),
    }

    def __post_init__(self) -> None:
        check(self)


class _Loop:
    def __init__(self, steps: Steps, settings: Settings, run: Run) -> None:
        self.steps = steps
        self.settings = settings
        self.world = steps.world
        self.run = run
        self.stream = Stream(steps.task)
        self.module = steps.task.module.train()
        self.state, self.ema = self._restored() if self.settings.resume else self._fresh()
        self.saved = self.state.step  # the step saved last
        elapsed = (self.state.seconds, self.state.reserve, self.state.prelude)
        self.budget = Budget(
            self.settings.steps, self.settings.minutes, *elapsed, self.settings.clock
        )
        # for the speed since the last row
        self.logged = time.perf_counter(), self.state.window.get("weight", 0.0)
        self.bar = Bar(self.world.first)

    def run_until_done(self, stop: StopRequest) -> JsonObject:
        while True:
            asked, fraction, room = self._agree(stop)
            if asked:
                self._save("last")
                raise Interrupted(
                    f"interrupted after step {self.state.step}; continue with --resume"
                )
            if fraction >= 1 or self.state.complete:
                return self._finish()
            if self._validation_due() and room:
                self._validate()  # and look at the clock again
            elif self._checkpoint_due():
                self._save("last")
            else:
                self._step(Progress(self.state.step, fraction))

    def position(self) -> JsonObject:
        """Return the step, the place in the epoch and the last rows of the log, for a report."""
        place = {"step": self.state.step, "epoch": self.state.epoch, "offset": self.state.offset}
        return place | {"rows": self.run.rows()[-5:]} if self.world.first else place

    def _step(self, progress: Progress) -> None:
        self.run.begun = True
        begun = self.budget.seconds
        items, epoch, offset = self.stream.take(
            self.state.epoch, self.state.offset, self.steps.batches
        )
        stepped = self.steps.step(items, progress)
        if self.ema:
            self.ema.update()
        self.state.step = self.state.step + 1
        self.state.epoch = epoch
        self.state.offset = offset
        for name, value in stepped.sums.items():
            self.state.window[name] = self.state.window.get(name, 0.0) + value
        if self.state.step % self.settings.log_every == 0:
            self._log(stepped)
        self.budget.pace = self.budget.seconds - begun
        self._show(stepped, progress.fraction)

    def _log(self, stepped: Stepped) -> None:
        weight = self.state.window.pop("weight")
        means = {name: value / weight for name, value in self.state.window.items()}
        since, before = self.logged
        speed = (weight - before) / max(time.perf_counter() - since, 1e-9)
        numbers = {
            "loss": means.pop("loss"),
            "lr": stepped.rate,
            "gradient_norm": stepped.gradient_norm,
            **means,
        }
        numbers |= self.steps.step_sizes()
        self.run.log(
            "train",
            self.state.step,
            **numbers,
            tokens_per_second=speed,
            seconds=self.budget.seconds,
        )
        self.state.window = {}
        self.logged = time.perf_counter(), 0.0

    def _validate(self) -> None:
        begun = self.budget.seconds
        improved = False
        if self.world.first:
            improved = self._judge(to_json(self._measure()))
        self.state.validated = self.state.step
        if improved:
            self._save("best")
        self.budget.reserve = max(self.budget.reserve, self.budget.seconds - begun)
        # speed is of training alone
        self.logged = time.perf_counter(), self.state.window.get("weight", 0.0)
        self.world.wait()

    def _measure(self) -> JsonObject:
        with self._weights_to_keep(), evaluating(self.module), torch.no_grad():
            # the same noise each time: differences are the model's
            reseed(self.settings.seed, "validation")
            return self.steps.task.validate(
                Progress(self.state.step, self.budget.fraction(self.state.step))
            )

    def _judge(self, numbers: JsonObject) -> bool:
        self.run.log("validation", self.state.step, **numbers, seconds=self.budget.seconds)
        self.state.validation = numbers
        # null if it was not finite: never best
        selection = numbers["selection"]
        best = self.state.best
        improved = selection is not None and (best is None or selection < best)
        self.state.best = selection if improved else best
        shown = f"{selection:.4f}" if selection is not None else "not finite"
        self.bar.say(
            f"step {self.state.step}: validation {shown}{', the best so far' if improved else ''}"
        )
        for note in numbers.get("notes", []):
            self.bar.say(f"note: {note}")
        return improved

    def _finish(self) -> JsonObject:
        if self.state.step == 0:
            what = f"minutes={self.settings.minutes:g} leave no time to train"
            raise InputError(
                f"{what}: validation takes {self.budget.reserve:.0f} s; give more, or a number of steps"
            )
        if self.state.validated != self.state.step:
            self._validate()
        if not self.state.complete:
            self.state.complete = True
            self._save("last")
        result = {
            "steps": self.state.step,
            "seconds": round(self.state.seconds, 3),
            **self.state.validation,
        }
        self.run.finish(result)
        return result

    def _save(self, name: str) -> None:
        if name == "last":
            self.saved = self.state.step
            self.run.begun = True
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

    def _fresh(self) -> tuple[_State, EMA | None]:
        self.run.keep_rows(0)
        return _State(processes=self.world.size), EMA(
            self.steps.averaged, self.settings.ema
        ) if self.settings.ema else None

    def _restored(self) -> tuple[_State, EMA | None]:
        folder = existing_folder(self.run.path / "checkpoints" / "last")
        if folder is None:
            self.run.resumed()
            return self._fresh()
        values = read_json(folder / "state.json")
        training = load_state(folder / "optimizer.pt")
        with reading(folder / "state.json"):
            state = _State(**values)
        if state.processes != self.world.size:
            started = f"{self.run.path} was trained by {state.processes} processes, now there are {self.world.size}"
            raise InputError(f"{started}; resume with torchrun --nproc-per-node {state.processes}")
        load_weights(self.module, folder / "model.safetensors")
        # begins as the saved average
        ema = EMA(self.steps.averaged, self.settings.ema) if self.settings.ema else None
        if ema:
            ema.updates = training.get("updates", 0)
            fill_weights(self.module, training.get("weights"), folder / "optimizer.pt")
        self.steps.load_state_dict(training, state.step)
        self.world.wait()  # barrier: the first process may write, the others may still be reading
        self.run.resumed()
        self.run.keep_rows(state.rows)
        return state, ema

    def _agree(self, stop: StopRequest) -> tuple[bool, float, bool]:
        # Clocks differ and signals come at different times: the first process's clock and anyone's
        # signal count.
        own = [self.budget.fraction(self.state.step), float(self.budget.has_room())]
        asked, fraction, room = self.world.total(
            [stop.asked, *(own if self.world.first else (0.0, 0.0))]
        )
        return asked > 0, fraction, room > 0

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
        speed = weight / max(self.budget.pace, 1e-9)
        left = (self.budget.seconds - self.budget.prelude) * (1 - fraction) / max(fraction, 1e-9)
        self.bar.show(fraction, self.state.step, stepped.sums["loss"] / weight, speed, left)

    def _weights_to_keep(self) -> Any:
        return self.ema.swapped() if self.ema else nullcontext()
