"""The floating-point operations of a function, its backward passes included."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

__all__ = ["CPU_ATTENTION", "OperationCounter"]

# Returns the operations of an operator, from its arguments and its result ``out_val``.
Count = Callable[..., int]


def _attention(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(q.shape, k.shape, v.shape)


def _attention_backward(gradient: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(gradient.shape, q.shape, k.shape, v.shape)


# PyTorch's counter has the fused attention of GPUs alone. Of a causal one it counts the hidden
# half, too.
CPU_ATTENTION: Mapping[Any, Count] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class OperationCounter(TorchDispatchMode):
    """Adds up the operations of matrix products, convolutions and attention while it is active.

    It has the formulas of :class:`torch.utils.flop_counter.FlopCounterMode`, which cannot count
    :func:`torch.autograd.grad`, as of gradient-normalised critics, because it tracks modules.

    Args:
        formulas: the operations of further operators.
    """

    def __init__(self, formulas: Mapping[Any, Count] | None = None) -> None:
        super().__init__()
        in_place = {torch.ops.aten.addmm_: flop_registry[torch.ops.aten.addmm]}
        self.formulas: dict[Any, Count] = {**flop_registry, **in_place, **(formulas or {})}
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        count = self.formulas.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result
