"""The processes of a training: one, or those that ``torchrun`` started, behind one interface."""

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

from experiments.training.heartbeats import Heartbeats
from experiments.training.processes import process_count, process_rank
from experiments.training.stopping import PeerEnded
from univae.devices import is_cuda, pick_device

# Messages of gloo and nccl where the process at the other end of a connection has ended.
_LOST = re.compile(r"Connection (closed|reset) by peer|[Ss]ocket closed|remote process exit")

__all__ = ["World", "join", "pick_device", "to_device", "without_averaging"]


Batch = TypeVar("Batch")
Gathered = TypeVar("Gathered")


@dataclass(frozen=True)
class World:
    """The processes that train one model together, with the rank and the device of this one."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, validates and decides for all."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Return each value summed over the processes, in float64; a collective operation."""
        if self.size == 1:
            return [float(value) for value in values]
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return summed.tolist()

    def gather(self, value: Gathered) -> list[Gathered]:
        """Return the values of all processes by rank to the first, none to the others; collective.

        Values are pickled.
        """
        if self.size == 1:
            return [value]
        values: list[Gathered | None] = [None] * self.size
        dist.gather_object(value, values if self.first else None)
        return cast("list[Gathered]", values) if self.first else []

    def first_decides(self, values: Sequence[bool]) -> list[bool]:
        """Return the first process's values on every process; a collective operation."""
        summed = self.total([float(value and self.first) for value in values])
        return [value > 0 for value in summed]

    def from_first(self, text: str) -> str:
        """Return the first process's text on every process; a collective operation."""
        texts = [text]
        if self.size > 1:
            dist.broadcast_object_list(texts, src=0)
        return texts[0]

    def wait(self) -> None:
        """Return when every process has called it (a barrier)."""
        if self.size > 1:
            dist.barrier()

    def average_gradients(self, module: nn.Module) -> nn.Module:
        """Return a module whose backward pass leaves the mean gradient over the processes."""
        if self.size == 1:
            return module
        device_ids = [self.device] if is_cuda(self.device) else None
        return DistributedDataParallel(module, device_ids=device_ids)

    def share_buffers(self, module: nn.Module) -> None:
        """Copy the first process's buffers, which are saved, to the others; collective."""
        if self.size == 1:
            return
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the gradient of each parameter by its mean over the processes; collective.

        For gradients that are the sum of several backward passes. A missing gradient counts as 0.
        There is one reduction per dtype.
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
    """If ``condition``, do not average gradients over the processes while a block runs.

    Of divided weights, until the next call.
    """
    if condition and isinstance(module, DistributedDataParallel):
        return module.no_sync()
    # of an FSDPModule, whose class takes every command most of a second to import
    set_sync = getattr(module, "set_requires_gradient_sync", None)
    if set_sync is not None:
        set_sync(not condition)
    return nullcontext()


@contextmanager
def join(device: str) -> Iterator[World]:
    """Connect the processes that ``torchrun`` started, if it did, while the block runs.

    A command calls this once, because a second rendezvous would read the keys of the first in the
    store, and never end. A nested call uses the group of the outer one.

    Raises:
        PeerEnded: another process ended within the block; its own message holds the reason. This
            one exits where another one freezes; see :class:`Heartbeats`.
    """
    size = process_count()
    if size == 1:
        yield World(0, 1, pick_device(device))
        return
    world = World(process_rank(), size, _local_device(pick_device(device)))
    if dist.is_initialized():
        yield world
        return
    store = _store()
    dist.init_process_group(
        _BACKENDS[world.device.type],
        store=store,
        rank=world.rank,
        world_size=size,
        timeout=_LONGEST_WAIT,
    )
    try:
        with Heartbeats(store, world.rank, size):
            yield world
            dist.barrier()  # another process may still be in a collective operation
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise PeerEnded(_LOST_PEER) from error
    finally:
        # DistributedDataParallel holds the group's threads, in reference cycles; one that outlives
        # the group crashes the interpreter at exit.
        gc.collect()
        dist.destroy_process_group()


# The library of collective operations, by the type of the device of their tensors.
_BACKENDS = {"cuda": "nccl", "cpu": "gloo", "mps": "gloo"}

# All processes wait while the first one validates, which may take hours; a process that does not
# answer ends the others before, by its heartbeats.
_LONGEST_WAIT = timedelta(days=1)
_LONGEST_START = timedelta(minutes=30)  # until all processes have met, some on other machines


_LOST_PEER = "a process that this one trains with has ended; its own message says why"


def _store() -> dist.Store:
    """Return the store of this start of the processes.

    A launcher that restarts them may keep its store, with the addresses of those that have ended.
    """
    store, _, size = next(dist.rendezvous("env://", timeout=_LONGEST_START))
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"restart {restarts} of {size}", store)


def _is_lost_connection(error: RuntimeError) -> bool:
    """Return whether an error means that another process has ended."""
    is_network_error = isinstance(error, dist.DistNetworkError | dist.DistStoreError)
    return is_network_error or _LOST.search(str(error)) is not None


def _local_device(device: torch.device) -> torch.device:
    """Return the GPU of this process among those of the machine; other devices unchanged."""
    if not is_cuda(device):
        return device
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return nested tuples, lists and dictionaries with all tensors moved to ``device``."""
    return cast(Batch, _on_device(batch, device))


def _on_device(batch: object, device: torch.device) -> object:
    if isinstance(batch, tuple) and hasattr(batch, "_make"):
        return batch._make(_on_device(entry, device) for entry in batch)
    if isinstance(batch, list | tuple):
        return type(batch)(_on_device(entry, device) for entry in batch)
    if isinstance(batch, dict):
        return {name: _on_device(entry, device) for name, entry in batch.items()}
    return batch.to(device, non_blocking=True) if hasattr(batch, "to") else batch
