r"""One update: the mean loss per target over all its micro-batches, whatever their number, sizes and processes.

.. math:: \nabla \frac{\sum_m \ell_m}{\sum_m w_m}

The weights :math:`w_m` are summed over micro-batches and processes *before* the first backward
pass, so a step of several ragged micro-batches is the step of one large batch. With a window of k
micro-steps the optimizer is given k times each one's share, of which it takes the mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from experiments.training.distributed import World, to_device, without_averaging
from experiments.training.optimizers import Build, build, restore
from experiments.training.settings import Settings
from experiments.training.stopping import TrainingFailed
from experiments.training.task import Progress, Task, Trained, reseed
from univae.dtypes import computation_dtype
from univae.errors import InputError
from univae.optim.egdd import EGDD
from univae.optim.schedules import cosine, tripling
from univae.optim.step_sizes import AdaptedSteps
from univae.optim.windowed import Windowed, accumulate_in_backward

__all__ = [
    "OwnBackward",
    "OwnSteps",
    "Stepped",
    "Stepper",
    "Steps",
    "Stream",
    "rate_factor",
    "steps_of",
    "uses_bf16",
]


class Stream:
    """The endless stream of a task's micro-batches, epoch after epoch; a step may straddle two."""

    def __init__(self, task: Trained) -> None:
        self._task = task
        self._epoch, self._items = -1, ()  # type: tuple[int, Sequence[Any]]

    def take(self, epoch: int, offset: int, count: int) -> tuple[list[Any], int, int]:
        """The ``count`` items from a place on, and the place after them."""
        taken: list[Any] = []
        while True:
            items = self._of(epoch)
            end = min(len(items), offset + count - len(taken))
            taken += [items[i] for i in range(offset, end)]
            if len(taken) == count:
                return taken, epoch, end
            epoch = epoch + 1
            offset = 0

    def _of(self, epoch: int) -> Sequence[Any]:
        if epoch != self._epoch:
            self._epoch, self._items = epoch, self._task.batches(epoch)
        if len(self._items) == 0:
            raise InputError("training: the data give no batch; give more data, or a smaller batch")
        return self._items


@dataclass(frozen=True)
class Stepped:
    """What one step saw: sums over its micro-batches on all processes, ``weight`` and ``loss`` among them."""

    sums: dict[str, float]
    rate: float
    gradient_norm: float


class Steps(Protocol):
    """What the loop asks of whatever takes its steps.

    :class:`Stepper` is one, a task may bring another.
    """

    @property
    def batches(self) -> int:
        """Micro-batches in a step, over all processes."""
        ...

    def step(self, items: Sequence[Any], progress: Progress) -> Stepped:
        """Take one step.

        :class:`TrainingFailed` if a number is not finite, and then nothing was changed.
        """
        ...

    def step_sizes(self) -> dict[str, float]:
        """Numbers about step sizes to log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything but the task's module that the next step depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue from the state saved after ``step`` steps.

        :class:`InputError` if it does not fit.
        """
        ...


@runtime_checkable
class OwnSteps(Trained, Protocol):
    """What descends in its own way, two players in turn say, in the one loop.

    It needs no ``loss``.
    """

    @property
    def averaged(self) -> nn.Module:
        """The part of ``module`` whose moving average is kept, validated and saved."""
        ...

    def stepper(self, settings: Settings, world: World) -> Steps:
        """What takes the steps; made once, when training begins."""
        ...


@runtime_checkable
class OwnBackward(Task, Protocol):
    """A task whose gradient is not one backward pass of its loss."""

    def backward(
        self, batch: Any, progress: Progress, factor: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add ``factor`` times the gradient of the loss to ``.grad``.

        Returns what ``loss`` returns, detached.
        """
        ...


class Stepper:
    """Descends one step of a task."""

    def __init__(self, task: Task, settings: Settings, world: World, build: Build = build) -> None:
        self.task = task
        self.settings = settings
        self.world = world
        self.parameters = [p for p in task.module.parameters() if p.requires_grad]
        self.optimizer = build(task.module, settings, world.device)
        self.adapted = self._adapted() if settings.adapt_step_size != "no" else None
        self._own_backward = isinstance(task, OwnBackward)
        # nobody else reads gradients
        free = settings.clip == 0 and settings.accumulate == 1 and self.adapted is None
        free = free and not self._own_backward  # and they are whole after one backward pass
        self.folds = False
        if free and settings.window > 1 and isinstance(self.optimizer, Windowed):
            self.folds = True
            accumulate_in_backward(self.optimizer, world.size)
        self._loss = _Loss(task) if self._own_backward else world.average_gradients(_Loss(task))
        self._bf16 = uses_bf16(settings.precision, world.device)

    @property
    def batches(self) -> int:
        """Micro-batches in a step, over all processes."""
        return self.world.size * self.settings.accumulate * self.settings.window

    def step(self, items: Sequence[Any], progress: Progress) -> Stepped:
        """Take one step on ``items``, of which this process computes every ``world.size``-th.

        Raises:
            TrainingFailed: the loss or the gradient is not finite; no weight was changed.
        """
        if (
            self.folds
        ):  # DistributedDataParallel shares them in forward passes that average, and none does here
            self.world.share_buffers(self.task.module)
        batches = [
            (index, self._load(index, items[index], progress)) for index in self._own(len(items))
        ]
        (weight,) = self.world.total([sum(self.task.weight(batch) for _, batch in batches)])
        if weight <= 0:
            raise ValueError(
                f"training: the micro-batches of a step hold {weight:g} targets; each must hold one"
            )
        rate = self.settings.lr * rate_factor(self.settings, progress.fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums: dict[str, float] = {}
        largest = 0.0
        for start in range(0, len(batches), self.settings.accumulate):
            part = batches[start : start + self.settings.accumulate]
            found, gradient_norm = self._micro_step(part, weight, progress)
            sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
            largest = max(largest, gradient_norm)
        return Stepped({"weight": weight} | sums, rate, math.nan if self.folds else largest)

    def step_sizes(self) -> dict[str, float]:
        """Quantiles of adapted step sizes, where there are any."""
        adaptive = self.adapted or self.optimizer
        return adaptive.step_sizes() if isinstance(adaptive, AdaptedSteps | EGDD) else {}

    def state_dict(self) -> dict[str, Any]:
        """What the optimizer and its step sizes remember."""
        adapted = {"step_sizes": self.adapted.state_dict()} if self.adapted else {}
        return {"optimizer": self.optimizer.state_dict(), **adapted}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue from the state saved after ``step`` steps.

        :class:`InputError` if it does not fit.
        """
        restore(self.optimizer, state.get("optimizer"), step)
        if self.adapted:
            self.adapted.load_state_dict(state.get("step_sizes", {}))

    def _adapted(self) -> AdaptedSteps:
        gain_lr = self.settings.gain_lr if self.settings.adapt_step_size == "gain" else 0.0
        return AdaptedSteps(
            self.optimizer, self.settings.scale_lr, gain_lr, halves=self.settings.adapt_halves
        )

    def _micro_step(
        self, batches: Sequence[tuple[int, Any]], weight: float, progress: Progress
    ) -> tuple[dict[str, float], float]:
        self.optimizer.zero_grad(set_to_none=True)
        names, sums = self._backward(batches, weight / self.settings.window, progress)
        norm = sums.new_zeros(())
        if not self.folds:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip or math.inf)
        gradient_norm, *own = torch.cat((norm.to(sums).reshape(1), sums)).tolist()
        totals = dict(zip(names, self.world.total(own), strict=True))
        self._require_finite(totals["loss"] / weight, gradient_norm, progress)
        self.optimizer.step()
        return totals, gradient_norm

    def _own(self, count: int) -> range:
        return range(self.world.rank, count, self.world.size)

    def _load(self, index: int, item: Any, progress: Progress) -> Any:
        # The seed names the micro-batch and not the process: two processes draw what one draws in
        # two turns.
        reseed(self.settings.seed, progress.step, index, "load")
        return self.task.load(item)

    def _backward(
        self, batches: Sequence[tuple[int, Any]], weight: float, progress: Progress
    ) -> tuple[list[str], Tensor]:
        names = []
        sums = []
        # Gradients that fold into the optimizer are averaged there, once a window.
        ends = [] if self.folds else [len(batches)]
        half = len(batches) // 2 if self.adapted and self.settings.adapt_halves else 0
        for count, (index, batch) in enumerate(batches, 1):
            reseed(self.settings.seed, progress.step, index, "loss")
            whole = count in (half, *ends)
            with without_averaging(self._loss, not whole):
                # Distributed training divides the summed gradients by the number of processes.
                factor = self.world.size / weight
                loss, logged = self._descend(to_device(batch, self.world.device), progress, factor)
            if whole and self._own_backward:
                self.world.average(self.parameters)
            if self.adapted and count == half:
                self.adapted.split()
            names = ["loss", *logged]
            dtype = computation_dtype(loss)
            sums.append(
                torch.stack(
                    [
                        torch.as_tensor(x).detach().to(loss.device, dtype)
                        for x in (loss, *logged.values())
                    ]
                )
            )
        return names, torch.stack(sums).sum(dim=0)

    def _descend(
        self, batch: Any, progress: Progress, factor: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self._bf16):
            if isinstance(self.task, OwnBackward):
                return self.task.backward(batch, progress, factor)
            loss, logged = self._loss(batch, progress)
        (loss * factor).backward()
        return loss, logged

    def _require_finite(self, loss: float, gradient_norm: float, progress: Progress) -> None:
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            return
        what = (
            f"the loss is {loss}"
            if not math.isfinite(loss)
            else f"the norm of the gradient is {gradient_norm}"
        )
        advice = [
            "a lower --lr",
            "a longer --warmup",
            "a smaller --clip",
            "--precision fp32",
            "a look at this batch",
        ]
        raise TrainingFailed(
            f"training stopped in step {progress.step + 1}: {what}; nothing was updated with it; try {advice[0]}, "
            f"{advice[1]} or {advice[2]}, and see ERROR.json in the run folder",
            loss=str(loss),
            gradient_norm=str(gradient_norm),
            **{"try": advice},
        )


class _Loss(nn.Module):
    # Distributed training averages the gradients of a module whose ``forward`` it calls itself.
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.module
        self.task = task

    def forward(self, batch: Any, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.task.loss(batch, progress)


def rate_factor(settings: Settings, fraction: float) -> float:
    """What the learning rate is multiplied by after a fraction of training."""
    if settings.schedule == "tripling":
        return tripling(fraction)
    return cosine(fraction, settings.warmup, settings.lr_floor)


def steps_of(
    task: Task | OwnSteps, settings: Settings, world: World, build: Build = build
) -> Steps:
    """What takes the steps of a task: its own, if it brings any."""
    task.module.to(world.device)
    return (
        task.stepper(settings, world)
        if isinstance(task, OwnSteps)
        else Stepper(task, settings, world, build)
    )


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether a ``--precision`` means bfloat16 on a device."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
