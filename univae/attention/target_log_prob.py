r"""Log-probabilities of target tokens, without the logits of all rows at once.

.. math:: \log p_i = \ell_{i t_i} - \log \sum_v e^{\ell_{iv}}, \qquad \ell_i = W x_i + b

The logits of a block of rows are computed, used for the result and its gradients, and forgotten:
they stay in the cache of the processor, and memory for rows x vocabulary numbers is not needed. The
gradient by the logits is :math:`\mathbb 1_{v = t_i} - p_{iv}`, times that of row i. Where all rows
have the same, as in sums and means over tokens, the forward pass has computed all of it; otherwise
the blocks are computed again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from univae.devices import all_true
from univae.dtypes import autocast, autocast_dtype

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

    Products are computed in the dtype of an active autocast. The result can be differentiated once,
    by autograd alone, not by ``torch.func``. A ``bias`` of -inf excludes an id.
    """
    dtype = autocast_dtype(x.device) or x.dtype
    needed = tuple(torch.is_grad_enabled() and y.requires_grad for y in (x, table, bias))
    apply = cast("Callable[..., Tensor]", _TargetLogProb.apply)
    with autocast(x.device, enabled=False):
        return apply(x, table, bias, targets, dtype, needed)


@dataclass(frozen=True)
class _Problem:
    """The arguments of :func:`target_log_prob`, and the dtype of its products."""

    x: Tensor
    table: Tensor
    bias: Tensor
    targets: Tensor
    product_dtype: torch.dtype

    @property
    def result_dtype(self) -> torch.dtype:
        """The dtype of sums: at least float32."""
        return torch.promote_types(self.product_dtype, torch.float32)

    def blocks(self) -> Iterator[slice]:
        """Yield the rows of each block."""
        on_host = self.x.device.type == HOST
        most = LOGITS_ON_HOST if on_host else LOGITS_ON_DEVICE
        size = max(1, most // len(self.table))
        for start in range(0, len(self.x), size):
            yield slice(start, start + size)

    def logits(self, rows: slice) -> Float[Tensor, "block vocab"]:
        """Return the logits of a block."""
        x = self.x[rows].to(self.product_dtype)
        table = self.table.to(self.product_dtype)
        if self.product_dtype == self.result_dtype == self.bias.dtype:
            return torch.addmm(self.bias, x, table.T)
        return (x @ table.T).to(self.result_dtype).add_(self.bias)

    def log_prob(self, gradients: "_Gradients | None") -> Float[Tensor, "rows"]:
        """Return the result; add what each row adds to ``gradients``."""
        result = self.x.new_empty(len(self.x), dtype=self.result_dtype)
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
                gradients.add(rows, by_logits)
        return result


class _Gradients:
    """The gradients of a weighted sum of the results, by default of their plain sum.

    ``needed`` says which of x, table and bias need one; the others are None.
    """

    def __init__(
        self, problem: _Problem, needed: Sequence[bool], weights: Tensor | None = None
    ) -> None:
        self.problem = problem
        self.weights = weights
        dtype = problem.result_dtype
        self.x = torch.empty_like(problem.x, dtype=dtype) if needed[0] else None
        self.table = torch.zeros_like(problem.table, dtype=dtype) if needed[1] else None
        self.bias = torch.zeros_like(problem.bias, dtype=dtype) if needed[2] else None

    def add(self, rows: slice, by_logits: Tensor) -> None:
        """Add the gradients of a block, given those by its logits."""
        problem = self.problem
        if self.weights is not None:
            by_logits = by_logits.mul_(self.weights[rows, None])
        if self.bias is not None:
            self.bias += by_logits.sum(0)
        factor = by_logits.to(problem.product_dtype)
        if self.x is not None:
            self.x[rows] = factor @ problem.table.to(problem.product_dtype)
        if self.table is None:
            return
        x = problem.x[rows].to(problem.product_dtype)
        if factor.dtype == self.table.dtype:
            self.table.addmm_(factor.T, x)
        else:
            self.table += factor.T @ x


class _Context(FunctionCtx):
    saved_tensors: tuple[Any, ...]
    product_dtype: torch.dtype
    needed: tuple[bool, ...]


class _TargetLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        table: Tensor,
        bias: Tensor,
        targets: Tensor,
        product_dtype: torch.dtype,
        needed: tuple[bool, ...],
    ) -> Float[Tensor, "rows"]:
        problem = _Problem(x, table, bias, targets, product_dtype)
        if not any(needed):
            return problem.log_prob(None)
        context = cast(_Context, ctx)
        context.product_dtype = product_dtype
        context.needed = needed
        gradients = _Gradients(problem, needed)
        result = problem.log_prob(gradients)
        cast(Any, ctx).save_for_backward(
            x, table, bias, targets, gradients.x, gradients.table, gradients.bias
        )
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        context = cast(_Context, ctx)
        x, table, bias, targets, *gradients = context.saved_tensors
        factor = grad[:1].sum()  # 0 where there is no row
        if not all_true(grad == factor):
            problem = _Problem(x, table, bias, targets, context.product_dtype)
            weighted = _Gradients(problem, context.needed, grad)
            problem.log_prob(weighted)
            gradients = [weighted.x, weighted.table, weighted.bias]
            factor = grad.new_ones(())
        results = []
        for argument, gradient in zip((x, table, bias), gradients, strict=True):
            results.append(None if gradient is None else (gradient * factor).to(argument.dtype))
        return (*results, None, None, None)
