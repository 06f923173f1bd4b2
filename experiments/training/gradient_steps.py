r"""Steps down the gradient of the mean loss per target, over any number of micro-batches.

.. math:: \nabla \frac{\sum_m \ell_m}{\sum_m w_m}

The weights :math:`w_m` are summed over micro-batches and processes *before* the first backward
pass, so a step of several ragged micro-batches is the step of one large batch. A loss of several
terms with different weights, :class:`experiments.training.task.WeighingTask`, learns their sums
then, too. With a window of k micro-steps the optimizer receives k times the gradient of each, and
averages them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, cast

import numpy as np
import torch
from torch import Tensor, nn

from experiments.data.notes import print_notes
from experiments.training.backward import Backward, LossBackward
from experiments.training.distributed import World, to_device
from experiments.training.division import divided_anew, even_parts, share_of_each
from experiments.training.optimizer_state import restore
from experiments.training.optimizers import Build, build
from experiments.training.settings import Settings
from experiments.training.sharding import unsharded, whole_tensor
from experiments.training.step import Stepped, Stream, rate_factor, uses_bf16
from experiments.training.step_sizes import STEP_SIZES
from experiments.training.stopping import TrainingFailed
from experiments.training.task import (
    Batch,
    Item,
    JoiningTask,
    Progress,
    Task,
    WeighingTask,
    reseed,
)
from univae.dtypes import computation_dtype
from univae.errors import InputError
from univae.optim.backward_folding import Folding, accumulate_in_backward
from univae.optim.egdd import EGDD
from univae.optim.step_sizes import AdaptedSteps
from univae.optim.windowed import Windowed

__all__ = ["GradientSteps"]

# For a loss or gradient that is not finite.
ADVICE = [
    "a lower --lr",
    "a longer --warmup",
    "a smaller --clip",
    "--precision fp32",
    "a look at this batch",
]


class GradientSteps(Generic[Item, Batch]):
    """Steps down the gradient of one loss.

    Args:
        task: the module, its batches and its loss.
        settings: the optimizer, its learning rate and batches.
        world: the processes that share a step.
        build: returns the optimizer.
        backward: computes gradients; by default in one pass of ``task.loss``.
    """

    def __init__(
        self,
        task: Task[Item, Batch],
        settings: Settings,
        world: World,
        build: Build = build,
        backward: Backward[Batch] | None = None,
    ) -> None:
        self.task = task
        self.settings = settings
        self.world = world
        self.parts = world.size  # micro-batches that the processes compute at the same time
        self.accumulate = settings.accumulate
        task.module.to(world.device)
        # weights are divided before the optimizer takes them
        self.sharded = settings.shard and world.size > 1
        if backward is not None:
            _require_chunkable(settings, is_sharded=self.sharded)
        self.backward: Backward[Batch] = backward or LossBackward(task, world, settings)
        self.parameters = [p for p in task.module.parameters() if p.requires_grad]
        self.optimizer = build(task.module, settings, world.device)
        self._bf16 = uses_bf16(settings.precision, world.device)
        if settings.compile:
            self._compile()
        self.adapted = STEP_SIZES[settings.adapt_step_size].around(self.optimizer, settings)
        self.folding: Folding | None = None
        if self._can_fold() and isinstance(self.optimizer, Windowed):
            self.folding = accumulate_in_backward(self.optimizer, self.world.size)

    @property
    def averaged(self) -> nn.Module:
        return self.task.module

    @property
    def saves_together(self) -> bool:
        """Whether a checkpoint needs all processes."""
        return self.sharded

    @property
    def folds(self) -> bool:
        """Whether backward passes add gradients to the momentum, without ``.grad``."""
        return self.folding is not None

    @property
    def optimized(self) -> Sequence[Tensor]:
        """The parameters in the order of the optimizer's state."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @property
    def batches(self) -> int:
        """Micro-batches in a step, over all processes."""
        return self.parts * self.accumulate * self.settings.window

    def whole_weights(self) -> AbstractContextManager[object]:
        """Let every process have all weights while a block runs; collective where divided."""
        if self.sharded and isinstance(self.backward, LossBackward):
            return unsharded(self.backward.loss)
        return nullcontext()

    def keep_batches(self, processes: int) -> None:
        """Keep the micro-batches of a step of a run that ``processes`` processes began.

        Where processes are joined, a step keeps its joint batches; see :class:`JoiningTask`.

        Raises:
            InputError: the halves of a step, which are compared, cannot be divided.
        """
        if isinstance(self.task, JoiningTask) and self.task.joins_processes:
            self.parts = even_parts(processes, self.world.size)
            return
        count = processes * self.settings.accumulate
        self.accumulate = share_of_each(count, self.world.size)
        if self.settings.adapt_halves and self.accumulate % 2:
            raise InputError(
                f"--adapt-halves: {count} micro-batches have no halves on {self.world.size} "
                f"processes; resume with {processes}"
            )
        if self.folds and not self._can_fold():
            self.release()
            print_notes(
                [
                    f"--clip 0: {processes} processes folded their own gradients into the "
                    f"momentum; {self.world.size} fold the means of {self.accumulate} "
                    "micro-batches, so that the second moments, and the weights, are others"
                ]
            )

    def step(self, items: Sequence[Item], progress: Progress) -> Stepped:
        """Take one step on ``items``, of which this process computes every ``world.size``-th.

        Raises:
            TrainingFailed: the loss or the gradient is not finite; no weight was changed.
        """
        if self.folds or self.sharded:
            # DistributedDataParallel shares buffers in forward passes that average gradients, and
            # none does where gradients are folded into the optimizer, or weights are divided.
            self.world.share_buffers(self.task.module)
        if self.parts != self.world.size:  # as of a JoiningTask alone
            rows = cast("Sequence[np.ndarray]", items)
            items = cast("Sequence[Item]", divided_anew(rows, self.parts, self.world.size))
        indices = range(self.world.rank, len(items), self.world.size)
        loaded = [self._load(index, items[index], progress) for index in indices]
        if isinstance(self.task, WeighingTask):
            loaded = self.task.weigh(loaded, self.world.total)
        batches = list(zip(indices, loaded, strict=True))
        (weight,) = self.world.total([sum(self.task.weight(batch) for batch in loaded)])
        if weight <= 0:
            raise ValueError(
                f"training: the micro-batches of a step hold {weight:g} targets; each must hold one"
            )
        rate = self._set_rate(progress)

        sums: dict[str, float] = {}
        largest = 0.0
        for start in range(0, len(batches), self.accumulate):
            micro_batches = batches[start : start + self.accumulate]
            totals, gradient_norm = self._micro_step(micro_batches, weight, progress)
            sums = {name: sums.get(name, 0.0) + value for name, value in totals.items()}
            largest = max(largest, gradient_norm)

        return Stepped({"weight": weight} | sums, rate, math.nan if self.folds else largest)

    def release(self) -> None:
        """Leave gradients in ``.grad`` from now on: the last step has been taken."""
        if self.folding is not None:
            self.folding.remove()
            self.folding = None

    def step_sizes(self) -> dict[str, float]:
        """Return quantiles of adapted step sizes, where there are any."""
        adaptive = self.adapted or self.optimizer
        return adaptive.step_sizes() if isinstance(adaptive, AdaptedSteps | EGDD) else {}

    def state_dict(self) -> dict[str, object]:
        """Return the state of the optimizer and of its step sizes."""
        adapted = {"step_sizes": self.adapted.state_dict()} if self.adapted else {}
        return {"optimizer": self.optimizer.state_dict(), **adapted}

    def load_state_dict(self, state: Mapping[str, object], step: int) -> None:
        """Continue from the state saved after ``step`` steps.

        Raises:
            InputError: the state does not fit.
        """
        restore(self.optimizer, state.get("optimizer"), step)
        if self.adapted:
            saved = state.get("step_sizes")
            self.adapted.load_state_dict(saved if isinstance(saved, Mapping) else {})

    def _compile(self) -> None:
        """Compute a gradient, which compiles, on the first micro-batch of the data.

        Code may depend on the batch that it is first generated for, up to rounding; this one is the
        same in a resumed run. Buffers, such as moving statistics, stay as they were.
        """
        buffers = {name: x.clone() for name, x in self.task.module.named_buffers()}
        start = Progress(0, 0.0)
        batch = self._load(0, Stream(self.task).take(0, 0, 1)[0][0], start)
        if isinstance(self.task, WeighingTask):
            (batch,) = self.task.weigh([batch], self.world.total)
        training = self.task.module.training
        self.task.module.train()
        reseed(self.settings.seed, 0, 0, "loss")
        self.backward(to_device(batch, self.world.device), start, 1.0, self._autocast)
        self.task.module.train(training)
        self.optimizer.zero_grad(set_to_none=True)
        for name, x in self.task.module.named_buffers():
            x.copy_(buffers[name])

    def _can_fold(self) -> bool:
        """Return whether only the momentum of a window reads ``.grad``."""
        settings = self.settings
        gradients_are_read = settings.clip > 0 or self.accumulate > 1 or self.adapted is not None
        if gradients_are_read or not self.backward.in_one_pass:
            return False
        return settings.window > 1 and isinstance(self.optimizer, Windowed)

    def _set_rate(self, progress: Progress) -> float:
        rate = self.settings.lr * rate_factor(self.settings, progress.fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _micro_step(
        self, batches: Sequence[tuple[int, Batch]], weight: float, progress: Progress
    ) -> tuple[dict[str, float], float]:
        self.optimizer.zero_grad(set_to_none=True)
        names, sums = self._gradient(batches, weight / self.settings.window, progress)
        norm = sums.new_zeros(())
        if not self.folds:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip or math.inf)
            norm = whole_tensor(norm)
        gradient_norm, *local_sums = torch.cat((norm.to(sums).reshape(1), sums)).tolist()
        totals = dict(zip(names, self.world.total(local_sums), strict=True))
        self._require_finite(totals["loss"] / weight, gradient_norm, progress)
        self.optimizer.step()
        return totals, gradient_norm

    def _load(self, index: int, item: Item, progress: Progress) -> Batch:
        # The seed depends on the micro-batch, not on the process: two processes draw the numbers
        # that one process draws for two micro-batches.
        reseed(self.settings.seed, progress.step, index, "load")
        return self.task.load(item)

    def _gradient(
        self, batches: Sequence[tuple[int, Batch]], weight: float, progress: Progress
    ) -> tuple[list[str], Tensor]:
        """Compute the gradient of the mean loss in ``.grad``; return names and sums to log."""
        names: list[str] = []
        sums = []
        half = len(batches) // 2 if self.adapted and self.settings.adapt_halves else 0
        # Micro-batches after which gradients are averaged over the processes; the optimizer
        # averages gradients that are added to its momentum, once a window.
        averaged_after = [half] if self.folds else [half, len(batches)]
        for count, (index, batch) in enumerate(batches, 1):
            reseed(self.settings.seed, progress.step, index, "loss")
            averages = count in averaged_after
            with self.backward.local(not averages):
                # DistributedDataParallel divides the summed gradients by the number of processes.
                factor = self.world.size / weight
                on_device = to_device(batch, self.world.device)
                loss, logged = self.backward(on_device, progress, factor, self._autocast)
            if averages:
                self.backward.finish(self.parameters)
            if self.adapted and count == half:
                self.adapted.split()
            names = ["loss", *logged]
            sums.append(_stacked(loss, logged.values()))
        return names, torch.stack(sums).sum(dim=0)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self._bf16)

    def _require_finite(self, loss: float, gradient_norm: float, progress: Progress) -> None:
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            return
        number = f"the loss is {loss}"
        if math.isfinite(loss):
            number = f"the norm of the gradient is {gradient_norm}"
        raise TrainingFailed(
            f"training stopped in step {progress.step + 1}: {number}; nothing was updated with it; "
            f"try {ADVICE[0]}, {ADVICE[1]} or {ADVICE[2]}, and see ERROR.json in the run folder",
            loss=str(loss),
            gradient_norm=str(gradient_norm),
            **{"try": ADVICE},
        )


def _require_chunkable(settings: Settings, *, is_sharded: bool) -> None:
    """Raise InputError for options that need one backward pass, with --chunk-size."""
    needs = {"shard": is_sharded, "recompute": settings.recompute, "compile": settings.compile}
    for name, is_given in needs.items():
        if is_given:
            remedy = "lower" if name == "recompute" else "leave out"
            raise InputError(
                f"--{name} needs gradients in one pass, and --chunk-size computes them in two; "
                f"{remedy} --chunk-size, or leave out --{name}"
            )


def _stacked(loss: Tensor, logged: Iterable[Tensor]) -> Tensor:
    """Return the loss and the numbers to log as one detached vector, in at least float32."""
    dtype = computation_dtype(loss)
    values = [torch.as_tensor(value).detach() for value in (loss, *logged)]
    return torch.stack([value.to(loss.device, dtype) for value in values])
