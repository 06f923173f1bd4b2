r"""All-gather of rows over processes, with gradients.

Let each process r of W compute a loss :math:`L_r` that may read the rows of all processes. The
backward pass of :func:`gather` *sums* the gradients of a row from the W losses, and distributed
training divides parameter gradients by W, so the result in ``.grad`` is

.. math:: \nabla \frac1W \sum_r L_r

without a factor W in the losses. A gather without that sum loses the gradient that reaches a key
through the queries of other processes.

References:
    Scaling Deep Contrastive Learning Batch Size (Gao et al., 2021),
    https://arxiv.org/abs/2101.06983
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.distributed as dist
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.autograd.function import FunctionCtx

from univae.errors import InputError

__all__ = ["Share", "gather", "rows_of_all", "world"]


def world(group: dist.ProcessGroup | None = None) -> tuple[int, int]:
    """Return this process's rank and the number of processes: (0, 1) without distribution."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def rows_of_all(
    count: int, device: torch.device, group: dist.ProcessGroup | None = None
) -> list[int]:
    """Return the number of rows of every process, by rank.

    Raises:
        InputError: a process has no row; raised on every process.
    """
    _, size = world(group)
    if size == 1:
        return [count]
    gathered = torch.empty(size, 1, dtype=torch.long, device=device)
    dist.all_gather(list(gathered), torch.tensor([count], device=device), group=group)
    counts: list[int] = gathered.flatten().tolist()
    if 0 in counts:
        raise InputError(
            f"gather: every process must hold rows; by rank they hold {counts}; "
            "give each process some rows of the batch"
        )
    return counts


def gather(
    x: Shaped[Tensor, "rows *features"],
    counts: list[int] | None = None,
    group: dist.ProcessGroup | None = None,
) -> Shaped[Tensor, "all *features"]:
    """Concatenate the rows of all processes, by rank; their numbers may differ.

    Every process must call it in the same order relative to other collectives. The gradient of a
    row is the sum over all processes. With a single process the result is ``x``.

    Args:
        x: the rows of this process.
        counts: the result of :func:`rows_of_all`, to save its communication.
        group: the processes; by default all.
    """
    _, size = world(group)
    if size == 1:
        return x
    counts = counts or rows_of_all(len(x), x.device, group)
    apply = cast("Callable[..., Tensor]", _Gather.apply)
    return apply(x, counts, group)


class Share(NamedTuple):
    """This process's rows among those of all processes."""

    counts: list[int]  # rows of every process, by rank
    rank: int

    @classmethod
    def of(cls, x: Shaped[Tensor, "rows *features"], *, gather: bool) -> "Share":
        """Return the share of ``x``; without ``gather``, as if this were the only process."""
        if not gather:
            return cls([len(x)], 0)
        return cls(rows_of_all(len(x), x.device), world()[0])

    def gather(self, x: Shaped[Tensor, "rows *features"]) -> Shaped[Tensor, "all *features"]:
        """Return :func:`gather` of ``x``."""
        return gather(x, self.counts) if len(self.counts) > 1 else x

    def indices(self, x: Shaped[Tensor, "rows *features"]) -> Int64[Tensor, "rows"]:
        """Return the indices of this process's rows in the gathered ones."""
        return sum(self.counts[: self.rank]) + torch.arange(len(x), device=x.device)

    def mean(self, x: Shaped[Tensor, "rows"]) -> Shaped[Tensor, ""]:
        """Return a value whose mean over processes is the mean over the rows of all."""
        return x.sum() * (len(self.counts) / sum(self.counts))


class _GatherContext(FunctionCtx):
    counts: list[int]
    group: dist.ProcessGroup | None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, counts: list[int], group: dist.ProcessGroup | None
    ) -> Tensor:
        context = cast(_GatherContext, ctx)
        context.counts = counts
        context.group = group
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        gathered = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(gathered, padded, group=group)
        return torch.cat([rows[:count] for rows, count in zip(gathered, counts, strict=True)])

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        context = cast(_GatherContext, ctx)
        count = context.counts[dist.get_rank(context.group)]
        size = len(context.counts)
        row_gradients = grad.new_empty(size * count, *grad.shape[1:])
        dist.all_to_all_single(
            row_gradients, grad.contiguous(), [count] * size, context.counts, group=context.group
        )
        return row_gradients.view(size, count, *grad.shape[1:]).sum(0), None, None
