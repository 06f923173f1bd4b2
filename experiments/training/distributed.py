"""One process, or several that ``torchrun`` started, behind one interface."""

import gc
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from experiments.training.processes import process_count, process_rank
from experiments.training.stopping import PeerEnded
from univae.devices import pick_device

# Messages of gloo and nccl where the other end of a connection is gone.
_LOST = re.compile(r"Connection (closed|reset) by peer|[Ss]ocket closed|remote process exit")

__all__ = ["World", "join", "pick_device", "to_device", "without_averaging"]


Batch = TypeVar("Batch")


@dataclass(frozen=True)
class World:
    """The processes that train one model together, with the rank and the device of this one."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes, validates and decides for all."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Return each value summed over the processes, in float64; a collective operation."""
        if self.size == 1:
            return [float(value) for value in values]
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return summed.tolist()

    def first_decides(self, values: Sequence[bool]) -> list[bool]:
        """Return the first process's values on every process; a collective operation."""
        summed = self.total([float(value and self.first) for value in values])
        return [value > 0 for value in summed]

    def wait(self) -> None:
        """Return when every process has called it (a barrier)."""
        if self.size > 1:
            dist.barrier()

    def average_gradients(self, module: nn.Module) -> nn.Module:
        """Return a module whose backward pass leaves the mean gradient over the processes."""
        if self.size == 1:
            return module
        return DistributedDataParallel(
            module, device_ids=[self.device] if self.device.type == "cuda" else None
        )

    def share_buffers(self, module: nn.Module) -> None:
        """Copy the first process's buffers, which are saved, to the others; collective."""
        if self.size == 1:
            return
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Leave each parameter the mean of its gradients over the processes; collective.

        For gradients that more than one backward pass adds up. A missing gradient counts as 0;
        there is one reduction per dtype.
        """
        if self.size == 1:
            return
        for dtype in dict.fromkeys(p.dtype for p in parameters):
            of_dtype = [p for p in parameters if p.dtype == dtype]
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in of_dtype]
            means = torch.cat([gradient.reshape(-1) for gradient in gradients])
            dist.all_reduce(means.div_(self.size))
            sizes = [p.numel() for p in of_dtype]
            for p, mean in zip(of_dtype, means.split(sizes), strict=True):
                p.grad = mean.view_as(p)


def without_averaging(module: nn.Module, condition: bool) -> AbstractContextManager[object]:
    """Inside the block, if ``condition``, sum gradients on this process alone."""
    if condition and isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


@contextmanager
def join(device: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started; without it, yield a world of one process.

    Within another ``join``, its group is reused. A command joins once, around everything that its
    processes do together: a second rendezvous in one command would read the keys that the first
    left in the store, and never end.

    Raises:
        PeerEnded: another process ended within the block; its message says why.
    """
    size = process_count()
    if size == 1:
        yield World(0, 1, pick_device(device))
        return
    world = World(process_rank(), size, _local_device(pick_device(device)))
    if dist.is_initialized():
        yield world
        return
    # A day, for the other processes wait while the first one validates, however long that takes.
    dist.init_process_group(_BACKENDS[world.device.type], timeout=timedelta(days=1))
    try:
        yield world
        dist.barrier()  # another process may still be in a collective operation
    except RuntimeError as error:
        lost = isinstance(error, dist.DistNetworkError | dist.DistStoreError)
        if not lost and not _LOST.search(str(error)):
            raise
        message = "a process that this one trains with has ended; its own message says why"
        raise PeerEnded(message) from error
    finally:
        # DistributedDataParallel holds the group's threads, in reference cycles; one that outlives
        # the group crashes the interpreter at exit.
        gc.collect()
        dist.destroy_process_group()


# The library of collective operations for tensors of a kind of device.
_BACKENDS = {"cuda": "nccl", "cpu": "gloo", "mps": "gloo"}


def _local_device(device: torch.device) -> torch.device:
    """Return the GPU of this process among those of the machine; another device as it is."""
    if device.type != "cuda":
        return device
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return nested tuples, lists and dictionaries with their tensors on ``device``."""
    return cast(Batch, _on_device(batch, device))


def _on_device(batch: object, device: torch.device) -> object:
    if isinstance(batch, tuple) and hasattr(batch, "_make"):
        return batch._make(_on_device(part, device) for part in batch)
    if isinstance(batch, list | tuple):
        return type(batch)(_on_device(part, device) for part in batch)
    if isinstance(batch, dict):
        return {name: _on_device(part, device) for name, part in batch.items()}
    return batch.to(device, non_blocking=True) if hasattr(batch, "to") else batch
