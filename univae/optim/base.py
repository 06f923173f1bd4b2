"""What every optimizer here shares: state in float32 at least, and updates that stay within a CPU's cache."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from univae.errors import InputError

__all__ = ["Base", "Scratch", "cached", "gradient", "require", "with_grad", "zeros"]

CACHED = 2**19  # elements updated together on a CPU: what belongs to them should fit into its cache


class Base(Optimizer):
    """An optimizer whose state keeps its precision when it is loaded: torch would cast it to the parameter's."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        require(self, "lr", defaults["lr"], 0 <= defaults["lr"] < float("inf"), "0 or more")
        require(self, "weight_decay", defaults["weight_decay"], defaults["weight_decay"] >= 0, "0 or more")
        super().__init__(params, defaults)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over a copy of a saved state."""
        super().load_state_dict(dict(state_dict))
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        for index, p in zip(saved, own, strict=True):
            for name, value in state_dict["state"].get(index, {}).items():
                if isinstance(value, Tensor):
                    self.state[p][name] = value.to(device=p.device, dtype=_wide(p), copy=True)


class Scratch:
    """Memory for intermediate results, used again for every run of parameters: a CPU pays dearly for fresh pages."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def copy(self, tensors: Sequence[Tensor], place: int = 0) -> list[Tensor]:
        """Copies of tensors of one kind, valid until the next call with the same ``place``."""
        size, first = sum(x.numel() for x in tensors), tensors[0]
        key = (place, first.device, first.dtype)
        if key not in self._held or self._held[key].numel() < size:
            self._held[key] = first.new_empty(size)
        parts = self._held[key][:size].split([x.numel() for x in tensors])
        copies = [part.view(x.shape) for part, x in zip(parts, tensors, strict=True)]
        torch._foreach_copy_(copies, list(tensors))
        return copies


def cached(params: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Cuts parameters into runs to update together: small ones on a CPU, where memory is slow, all on a GPU."""
    run: list[Tensor] = []
    size = 0
    for p in params:
        if run and p.device.type == "cpu" and size + p.numel() > CACHED:
            yield run
            run, size = [], 0
        run.append(p)
        size += p.numel()
    if run:
        yield run


def require(owner: object, name: str, value: Any, holds: bool, rule: str) -> None:
    """Refuses a value that breaks its rule."""
    if not holds:
        raise InputError(f"{type(owner).__name__}: {name} must be {rule}; got {name}={value}")


def gradient(p: Tensor, maximize: bool) -> Tensor:
    """The gradient to descend, dense and in the precision of the state; the parameter's own where that is the same."""
    assert p.grad is not None
    g = (p.grad.to_dense() if p.grad.is_sparse else p.grad).to(_wide(p))
    return -g if maximize else g


def zeros(p: Tensor) -> Tensor:
    """A state tensor for a parameter."""
    return torch.zeros_like(p, dtype=_wide(p))


def with_grad(closure: Callable[[], Any] | None) -> Any:
    """The closure's loss, computed with gradients; nothing without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _wide(p: Tensor) -> torch.dtype:
    return torch.promote_types(p.dtype, torch.float32)
