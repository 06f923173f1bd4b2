"""One process or many under ``torchrun``; the loop need not know which."""

import gc
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from experiments.training.stopping import PeerEnded
from univae.devices import pick_device

# What gloo and nccl say where the other end of a connection is gone.
_LOST = re.compile(r"Connection (closed|reset) by peer|[Ss]ocket closed|remote process exit")

__all__ = ["World", "join", "pick_device", "to_device", "without_averaging"]


@dataclass(frozen=True)
class World:
    """The processes that train one model together, and this one's place and device among them."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes, validates and decides for all."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Sum each value over the processes, in float64; all must call it at the same place."""
        if self.size == 1:
            return [float(value) for value in values]
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return summed.tolist()

    def first_decides(self, values: Sequence[bool]) -> list[bool]:
        """Return the first process's values on every process.

        All must call it at the same place.
        """
        summed = self.total([float(value and self.first) for value in values])
        return [value > 0 for value in summed]

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier()

    def average_gradients(self, module: nn.Module) -> nn.Module:
        """A module whose backward pass leaves the mean gradient over the processes."""
        if self.size == 1:
            return module
        return DistributedDataParallel(
            module, device_ids=[self.device] if self.device.type == "cuda" else None
        )

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's buffers, which are those that are saved.

        All must call it together.
        """
        if self.size == 1:
            return
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Leave each parameter the mean of its gradients over the processes, none counting as 0; one reduction a type.

        For gradients of more than one backward pass; all must call it at the same place.
        """
        if self.size == 1:
            return
        for dtype in dict.fromkeys(p.dtype for p in parameters):
            alike = [p for p in parameters if p.dtype == dtype]
            means = torch.cat(
                [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in alike]
            )
            dist.all_reduce(means.div_(self.size))
            for p, mean in zip(alike, means.split([p.numel() for p in alike]), strict=True):
                p.grad = mean.view_as(p)


def without_averaging(module: nn.Module, condition: bool) -> AbstractContextManager[Any]:
    """Inside the block, if ``condition``, gradients only add up on this process."""
    return (
        module.no_sync()
        if condition and isinstance(module, DistributedDataParallel)
        else nullcontext()
    )


@contextmanager
def join(device: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, if it did; within another ``join``, reuse its group.

    A command joins once, around everything that its processes do together: a second rendezvous in
    one command would read the keys that the first left in the store, and wait for ever.

    Raises:
        PeerEnded: another process ended within the block; its own message says why.
    """
    rank, size = (
        int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))
    )
    place = pick_device(device)
    if size == 1:
        yield World(0, 1, place)
        return
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    if dist.is_initialized():
        yield World(rank, size, place)
        return
    # A day: the others wait while the first process validates, however long that takes.
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=timedelta(days=1))
    try:
        yield World(rank, size, place)
        dist.barrier()  # another process may still be in a collective operation
    except RuntimeError as error:
        if not isinstance(error, dist.DistNetworkError | dist.DistStoreError) and not _LOST.search(
            str(error)
        ):
            raise
        raise PeerEnded(
            "a process that this one trains with has ended; its own message says why"
        ) from error
    finally:
        # Models that average gradients hold the group's threads, in reference cycles; a thread that
        # outlives the group to the interpreter's end is a crash.
        gc.collect()
        dist.destroy_process_group()


def to_device(batch: Any, device: torch.device) -> Any:
    """Move the tensors in nested tuples, lists and dictionaries.

    Leaves everything else as it is.
    """
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(part, device) for part in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(part, device) for part in batch)
    if isinstance(batch, dict):
        return {name: to_device(part, device) for name, part in batch.items()}
    return batch.to(device, non_blocking=True) if hasattr(batch, "to") else batch
