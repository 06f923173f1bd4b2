r"""Rows of all processes on each of them, with the gradient that flows back to where the rows came from.

Let each process r of W compute a loss :math:`L_r` that may read everybody's rows. The backward pass
of :func:`gather` *sums* what the W losses ask of a row, and distributed training divides parameter
gradients by W, so what is left in ``.grad`` is

.. math:: \nabla \frac1W \sum_r L_r

and nobody multiplies by W anywhere. A gather without that sum loses the gradient that reaches a key
through the queries of the others.

References:
    Scaling Deep Contrastive Learning Batch Size (Gao et al., 2021),
    https://arxiv.org/abs/2101.06983
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Int64, Shaped
from torch import Tensor

from univae.errors import InputError

__all__ = ["Share", "gather", "rows_of_all", "world"]


def world(group: dist.ProcessGroup | None = None) -> tuple[int, int]:
    """This process's rank and the number of processes: (0, 1) where none have joined."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def rows_of_all(
    count: int, device: torch.device, group: dist.ProcessGroup | None = None
) -> list[int]:
    """How many rows every process holds, in the order of their ranks.

    Raises:
        InputError: on every process alike, where one of them holds none.
    """
    _, size = world(group)
    if size == 1:
        return [count]
    counts = torch.empty(size, 1, dtype=torch.long, device=device)
    dist.all_gather(list(counts), torch.tensor([count], device=device), group=group)
    held = counts.flatten().tolist()
    if 0 in held:
        raise InputError(
            f"gather: every process must hold rows; by rank they hold {held}; give each a part of the batch"
        )
    return held


def gather(
    x: Shaped[Tensor, "rows *features"],
    counts: list[int] | None = None,
    group: dist.ProcessGroup | None = None,
) -> Shaped[Tensor, "all *features"]:
    """Concatenate the rows of all processes, in the order of their ranks; they may hold different numbers of rows.

    Every process must call it at the same place. ``counts`` are those of :func:`rows_of_all`, if
    they are known. The gradient of a row is the sum of what all processes ask of it. One process
    alone gets ``x``.
    """
    _, size = world(group)
    if size == 1:
        return x
    return _Gather.apply(x, counts or rows_of_all(len(x), x.device, group), group)


class Share(NamedTuple):
    """This process's rows among those of all."""

    counts: list[int]  # rows of every process, by rank
    rank: int

    @classmethod
    def of(cls, x: Shaped[Tensor, "rows *features"], gather: bool) -> "Share":
        """Where the rows of ``x`` stand among everybody's; without ``gather``, among themselves."""
        return cls(rows_of_all(len(x), x.device), world()[0]) if gather else cls([len(x)], 0)

    def gather(self, x: Shaped[Tensor, "rows *features"]) -> Shaped[Tensor, "all *features"]:
        """Everybody's rows, as :func:`gather` gives them."""
        return gather(x, self.counts) if len(self.counts) > 1 else x

    def places(self, x: Shaped[Tensor, "rows *features"]) -> Int64[Tensor, "rows"]:
        """Where in that the own rows are."""
        return sum(self.counts[: self.rank]) + torch.arange(len(x), device=x.device)

    def mean(self, x: Shaped[Tensor, "rows"]) -> Shaped[Tensor, ""]:
        """A share whose mean over processes is the mean over all rows, however many each process holds."""
        return x.sum() * (len(self.counts) / sum(self.counts))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int], group: dist.ProcessGroup | None) -> Tensor:
        ctx.counts = counts
        ctx.group = group
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        every = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(every, padded, group=group)
        return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        own = ctx.counts[dist.get_rank(ctx.group)]
        size = len(ctx.counts)
        asked = grad.new_empty(size * own, *grad.shape[1:])
        dist.all_to_all_single(asked, grad.contiguous(), [own] * size, ctx.counts, group=ctx.group)
        return asked.unflatten(0, (size, own)).sum(0), None, None
