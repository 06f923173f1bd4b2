r"""Log-probabilities of target tokens, without the logits of all rows at once.

.. math:: \log p_i = \ell_{i t_i} - \log \sum_v e^{\ell_{iv}}, \qquad \ell_i = W x_i + b

The logits of a block of rows are computed, used for the result and its gradients, and forgotten:
they stay in the cache of the processor, and memory for rows x vocabulary numbers is not needed. The
gradient by the logits is :math:`\mathbb 1_{v = t_i} - p_{iv}`, times that of row i. Where all rows
have the same, as in sums and means over tokens, the forward pass has computed all of it; otherwise
the blocks are computed again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from univae.dtypes import computation_dtype

__all__ = ["target_log_prob"]

HOST = "cpu"
# Logits in a block: on the CPU few enough for its cache, elsewhere enough to fill the device.
LOGITS_ON_HOST = 2**22
LOGITS_ON_DEVICE = 2**26


def target_log_prob(
    x: Float[Tensor, "rows width"],
    table: Float[Tensor, "vocab width"],
    bias: Float[Tensor, "vocab"],
    targets: Int[Tensor, "rows"],
) -> Float[Tensor, "rows"]:
    """Return the log-probability of a target for each row, in at least float32.

    Products are computed in the dtype of an active autocast. The result can be differentiated once.
    A ``bias`` of -inf excludes an id.
    """
    apply = cast("Callable[..., Tensor]", _TargetLogProb.apply)
    return apply(x, table, bias, targets)


@dataclass(frozen=True)
class _Problem:
    """The arguments of :func:`target_log_prob`, and the dtype of its products."""

    x: Tensor
    table: Tensor
    bias: Tensor
    targets: Tensor
    low: torch.dtype

    def blocks(self) -> Iterator[slice]:
        """Yield the rows of each block."""
        on_host = self.x.device.type == HOST
        most = LOGITS_ON_HOST if on_host else LOGITS_ON_DEVICE
        size = max(1, most // len(self.table))
        for start in range(0, len(self.x), size):
            yield slice(start, start + size)

    def logits(self, rows: slice) -> Float[Tensor, "block vocab"]:
        """Return the logits of a block in at least float32."""
        x = self.x[rows].to(self.low)
        high = computation_dtype(x)
        if self.low == high == self.bias.dtype:
            return torch.addmm(self.bias, x, self.table.to(self.low).T)
        return (x @ self.table.to(self.low).T).to(high).add_(self.bias)

    def log_prob(self, gradients: "_Gradients | None") -> Float[Tensor, "rows"]:
        """Return the result; add what each row adds to ``gradients``."""
        high = torch.promote_types(self.low, torch.float32)
        result = self.x.new_empty(len(self.x), dtype=high)
        for rows in self.blocks():
            logits = self.logits(rows)
            target = self.targets[rows, None]
            top = logits.amax(1, keepdim=True)
            shifted = logits.gather(1, target) - top
            exponentials = logits.sub_(top).exp_()
            total = exponentials.sum(1, keepdim=True)
            result[rows] = (shifted - total.log()).squeeze(1)
            if gradients is not None:
                by_logits = exponentials.mul_(-1 / total)
                by_logits.scatter_add_(1, target, torch.ones_like(total))
                gradients.add(self, rows, by_logits)
        return result


class _Gradients:
    """The gradients of a weighted sum of the results, by default of their plain sum."""

    def __init__(self, problem: _Problem, weights: Tensor | None = None) -> None:
        high = torch.promote_types(problem.low, torch.float32)
        self.weights = weights
        self.x = torch.empty_like(problem.x)
        self.table = torch.zeros_like(problem.table, dtype=high)
        self.bias = torch.zeros_like(problem.bias, dtype=high)

    def add(self, problem: _Problem, rows: slice, by_logits: Tensor) -> None:
        """Add the gradients of a block, given those by its logits."""
        if self.weights is not None:
            by_logits = by_logits.mul_(self.weights[rows, None])
        low = by_logits.to(problem.low)
        x = problem.x[rows].to(problem.low)
        self.x[rows] = low @ problem.table.to(problem.low)
        self.bias += by_logits.sum(0)
        if low.dtype == self.table.dtype:
            self.table.addmm_(low.T, x)
        else:
            self.table += low.T @ x

    def scaled(self, factor: Tensor, problem: _Problem) -> tuple[Tensor, Tensor, Tensor]:
        """Return them times a factor, in the dtypes of the arguments."""
        return (
            self.x * factor.to(self.x.dtype),
            (self.table * factor).to(problem.table.dtype),
            (self.bias * factor).to(problem.bias.dtype),
        )


class _Context(FunctionCtx):
    needs_input_grad: tuple[bool, ...]
    problem: _Problem
    gradients: _Gradients


class _TargetLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, table: Tensor, bias: Tensor, targets: Tensor
    ) -> Float[Tensor, "rows"]:
        kind = x.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        problem = _Problem(x, table, bias, targets, low)
        context = cast(_Context, ctx)
        with torch.autocast(kind, enabled=False):
            if not any(context.needs_input_grad):
                return problem.log_prob(None)
            context.problem = problem
            context.gradients = _Gradients(problem)
            return problem.log_prob(context.gradients)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        context = cast(_Context, ctx)
        problem = context.problem
        first = grad[:1].sum()  # 0 where there is no row
        if bool((grad == first).all()):
            return (*context.gradients.scaled(first, problem), None)
        weighted = _Gradients(problem, grad)
        problem.log_prob(weighted)
        return (*weighted.scaled(grad.new_ones(()), problem), None)
