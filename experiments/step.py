r"""One optimizer step: the mean loss per target over all its micro-batches, whatever their number, sizes and processes.

.. math:: \nabla \frac{\sum_m \ell_m}{\sum_m w_m}

The weights :math:`w_m` are summed over micro-batches and processes *before* the first backward pass, so a step of
several ragged micro-batches is the step of one large batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.distributed import World, to_device, without_averaging
from experiments.settings import Settings
from experiments.stopping import TrainingFailed
from experiments.task import Progress, Task, reseed
from univae.errors import InputError
from univae.optim.groups import parameter_groups
from univae.optim.schedule import cosine

__all__ = ["Stepped", "Stepper", "Stream"]


class Stream:
    """The endless stream of a task's micro-batches, epoch after epoch; a step may straddle two."""

    def __init__(self, task: Task) -> None:
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
            epoch, offset = epoch + 1, 0

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


class Stepper:
    """Descends one step of a task with AdamW."""

    def __init__(self, task: Task, settings: Settings, world: World) -> None:
        self.task, self.settings, self.world = task, settings, world
        self.parameters = [p for p in task.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(task.module, settings.weight_decay),
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            fused=world.device.type in ("cpu", "cuda"),
        )
        self._loss = world.average_gradients(_Loss(task))
        self._bf16 = _bf16(settings.precision, world.device)

    def step(self, items: Sequence[Any], progress: Progress) -> Stepped:
        """Takes one step on ``items``, of which this process computes every ``world.size``-th.

        Raises:
            TrainingFailed: the loss or the gradient is not finite; no weight was changed.
        """
        batches = [(index, self._load(index, items[index], progress)) for index in self._own(len(items))]
        (weight,) = self.world.total([sum(self.task.weight(batch) for _, batch in batches)])
        if weight <= 0:
            raise ValueError(f"training: the micro-batches of a step hold {weight:g} targets; each must hold one")
        self.optimizer.zero_grad(set_to_none=True)
        names, sums = self._backward(batches, weight, progress)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip or math.inf)
        gradient_norm, *own = torch.cat((norm.to(sums).reshape(1), sums)).tolist()
        totals = dict(zip(names, self.world.total(own), strict=True))
        self._require_finite(totals["loss"] / weight, gradient_norm, progress)
        rate = self.settings.lr * cosine(progress.fraction, self.settings.warmup, self.settings.lr_floor)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return Stepped({"weight": weight} | totals, rate, gradient_norm)

    def _own(self, count: int) -> range:
        return range(self.world.rank, count, self.world.size)

    def _load(self, index: int, item: Any, progress: Progress) -> Any:
        # The seed names the micro-batch and not the process: two processes draw what one draws in two turns.
        reseed(self.settings.seed, progress.step, index, "load")
        return self.task.load(item)

    def _backward(
        self, batches: Sequence[tuple[int, Any]], weight: float, progress: Progress
    ) -> tuple[list[str], Tensor]:
        names, sums = [], []
        for index, batch in batches:
            reseed(self.settings.seed, progress.step, index, "loss")
            with without_averaging(self._loss, index != batches[-1][0]):
                with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self._bf16):
                    loss, logged = self._loss(to_device(batch, self.world.device), progress)
                # Distributed training divides the summed gradients by the number of processes.
                (loss * (self.world.size / weight)).backward()
            names = ["loss", *logged]
            dtype = torch.promote_types(loss.dtype, torch.float32)
            sums.append(
                torch.stack([torch.as_tensor(x).detach().to(loss.device, dtype) for x in (loss, *logged.values())])
            )
        return names, torch.stack(sums).sum(dim=0)

    def _require_finite(self, loss: float, gradient_norm: float, progress: Progress) -> None:
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            return
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradient is {gradient_norm}"
        advice = ["a lower --lr", "a longer --warmup", "a smaller --clip", "--precision fp32", "a look at this batch"]
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
        self.module, self.task = task.module, task

    def forward(self, batch: Any, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.task.loss(batch, progress)


def _bf16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
