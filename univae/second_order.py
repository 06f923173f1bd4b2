r"""Operators with a second derivative of their own, for scores that contain an input gradient.

The loss of a critic under gradient normalisation contains :math:`g = \nabla_x f`, and its gradient
in the weights a second backward pass, through the first one. PyTorch composes the second derivative
of its fused operators of elementwise passes over new memory, which cost more than the matrix
products. An :class:`Operator` has formulas for both passes instead.

For an operator :math:`y = F(x)` of several inputs, the first pass computes :math:`g_x = J^T g_y`.
The second one has a cotangent c of :math:`g_x`, and computes those of :math:`g_y` and x,

.. math:: J c, \qquad \nabla_x \langle g_y, J(x) \, c \rangle

Third derivatives are those of :meth:`Operator.composed` by autograd.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import FunctionCtx

__all__ = ["Gradients", "Operator", "apply", "has_own_derivatives"]

HOST = "cpu"
DTYPES = (torch.float32, torch.float64)

# One gradient for each input; None where it is not needed.
Gradients: TypeAlias = tuple[Tensor | None, ...]


@runtime_checkable
class Operator(Protocol):
    """A function of tensors with formulas of its first and second derivatives."""

    def composed(self, *inputs: Tensor) -> Tensor:
        """Return the value by operators of PyTorch, which are differentiable without limit."""
        ...

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the value, and tensors that the derivatives use."""
        ...

    def gradients(
        self, grad: Tensor, inputs: Sequence[Tensor], kept: Sequence[Tensor], needed: Sequence[bool]
    ) -> Gradients:
        """Return the gradients in the inputs that need one, for the gradient of the value."""
        ...

    def second(
        self,
        grad: Tensor,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        gradients: Gradients,
        cotangents: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> Gradients | None:
        """Return the gradients in ``grad`` and in the inputs, for cotangents of ``gradients``.

        None: there is no formula for these cotangents.
        """
        ...


def has_own_derivatives(*inputs: Tensor) -> bool:
    """Return whether :func:`apply` is exact for such inputs, and measured to be faster if large.

    It is for plain tensors in float32 or float64 on the CPU, outside ``torch.compile``, forward
    mode and ``torch.func``. The rule depends on no value.
    """
    if torch.compiler.is_compiling() or forward_ad._current_level >= 0:
        return False
    dtype = inputs[0].dtype
    if dtype not in DTYPES or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return all(x.device.type == HOST and x.dtype == dtype for x in inputs)


def apply(operator: Operator, *inputs: Tensor) -> Tensor:
    """Return the operator's value, which may be differentiated any number of times."""
    function = cast("Callable[..., Tensor]", _Value.apply)
    return function(operator, *inputs)


class _Context(FunctionCtx):
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    operator: Operator
    inputs: int


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, operator: Operator, *inputs: Tensor) -> Tensor:
        value, *kept = operator.value(*inputs)
        context = cast(_Context, ctx)
        context.operator = operator
        context.inputs = len(inputs)
        cast(Any, ctx).save_for_backward(*inputs, *kept)
        return value

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        context = cast(_Context, ctx)
        tensors = context.saved_tensors
        needed = context.needs_input_grad[1:]
        count = context.inputs
        if torch.is_grad_enabled():
            function = cast("Callable[..., Gradients]", _Gradient.apply)
            return (None, *function(context.operator, needed, grad, *tensors))
        inputs = tensors[:count]
        return (None, *context.operator.gradients(grad, inputs, tensors[count:], needed))


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        operator: Operator,
        needed: tuple[bool, ...],
        grad: Tensor,
        *tensors: Tensor,
    ) -> Gradients:
        count = len(needed)
        gradients = operator.gradients(grad, tensors[:count], tensors[count:], needed)
        context = cast(_Context, ctx)
        context.operator = operator
        context.inputs = count
        ctx.set_materialize_grads(value=False)
        cast(Any, ctx).save_for_backward(grad, *tensors, *gradients)
        return gradients

    @staticmethod
    def backward(ctx: FunctionCtx, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        context = cast(_Context, ctx)
        operator = context.operator
        count = context.inputs
        grad, *tensors = context.saved_tensors
        inputs = tensors[:count]
        kept = tensors[count:-count]
        second: Gradients | None = None
        if not torch.is_grad_enabled():
            needed = context.needs_input_grad[2 : 3 + count]
            gradients = tuple(tensors[-count:])
            second = operator.second(grad, inputs, kept, gradients, cotangents, needed)
        if second is None:
            second = _second_by_autograd(operator, grad, inputs, cotangents)
        return (None, None, *second, *[None] * len(kept))


def _second_by_autograd(
    operator: Operator, grad: Tensor, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None]
) -> Gradients:
    create_graph = torch.is_grad_enabled()
    # New variables: the old ones depend on each other, the gradient of the value on the inputs.
    variables = []
    for x in (grad, *inputs):
        has_graph = create_graph and x.requires_grad
        variables.append(x.view_as(x) if has_graph else x.detach().requires_grad_())
    pairs = [(i, c) for i, c in enumerate(cotangents) if c is not None]
    if not pairs:
        return (None,) * len(variables)

    with torch.enable_grad():
        value = operator.composed(*variables[1:])
        gradients = torch.autograd.grad(
            value, [variables[1 + i] for i, _ in pairs], variables[0], create_graph=True
        )
    return torch.autograd.grad(
        gradients,
        variables,
        [c for _, c in pairs],
        create_graph=create_graph,
        allow_unused=True,
    )
