"""What every optimizer here shares: state in float32 at least, and updates that stay within a CPU's cache."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from univae.dtypes import computation_dtype
from univae.errors import InputError

__all__ = ["Base", "Scratch", "cached", "gradient", "require", "whole_number", "with_grad", "zeros"]

CACHED = 2**19  # elements updated together on a CPU: what belongs to them should fit into its cache


class Base(Optimizer):
    """An optimizer whose state keeps its precision when it is loaded: torch would cast it to the parameter's."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        require(self, "lr", defaults["lr"], 0 <= defaults["lr"] < float("inf"), "0 or more")
        require(
            self,
            "weight_decay",
            defaults["weight_decay"],
            defaults["weight_decay"] >= 0,
            "0 or more",
        )
        super().__init__(params, defaults)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a copy of a saved state, in the precision that it has.

        Raises:
            InputError: for the state of another optimizer, or of parameters of other shapes;
                nothing is changed then.
        """
        state = dict(state_dict)
        self._require_groups(state["param_groups"])
        pairs = []
        for saved, own in zip(state["param_groups"], self.param_groups, strict=True):
            for index, p in zip(saved["params"], own["params"], strict=True):
                pairs.append((index, p))
                self._require_state(saved, index, state["state"].get(index, {}), p)
        super().load_state_dict(state)
        for index, p in pairs:
            for name, value in state["state"].get(index, {}).items():
                if isinstance(value, Tensor):
                    self.state[p][name] = value.to(
                        device=p.device, dtype=computation_dtype(p), copy=True
                    )

    def slots(self, group: Mapping[str, Any]) -> set[str]:
        """Return the names of the tensors of a parameter's shape that its state has."""
        raise NotImplementedError

    def numbers(self, group: Mapping[str, Any]) -> set[str]:
        """Return the names of what else a parameter's state has."""
        raise NotImplementedError

    def _require_groups(self, groups: Sequence[Mapping[str, Any]]) -> None:
        saved = [len(group["params"]) for group in groups]
        own = [len(group["params"]) for group in self.param_groups]
        self._require_saved(saved == own, f"groups of {own} parameters; got groups of {saved}")
        for group in groups:
            missing = sorted(self.defaults.keys() - group.keys())
            self._require_saved(
                not missing, f"its options; got a group without {', '.join(missing)}"
            )

    def _require_state(
        self, group: Mapping[str, Any], index: Any, state: Mapping[str, Any], p: Tensor
    ) -> None:
        if not state:
            return
        names = self.slots(group) | self.numbers(group)
        rule = f"{', '.join(sorted(names))} of parameter {index}; got {', '.join(sorted(state))}"
        self._require_saved(state.keys() == names, rule)
        for name in sorted(self.slots(group)):
            shape = tuple(getattr(state[name], "shape", ()))
            rule = f"{name} of shape {tuple(p.shape)} for parameter {index}; got {shape}"
            self._require_saved(isinstance(state[name], Tensor) and shape == tuple(p.shape), rule)

    def _require_saved(self, holds: bool, rule: str) -> None:
        if not holds:
            who = type(self).__name__
            raise InputError(
                f"{who}: the saved state must have {rule}; load a state of {who} for these parameters"
            )


class Scratch:
    """Memory for intermediate results, used again for every run of parameters: a CPU pays dearly for fresh pages."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def copy(self, tensors: Sequence[Tensor], place: int = 0) -> list[Tensor]:
        """Copy of tensors of one kind, valid until the next call with the same ``place``."""
        size = sum(x.numel() for x in tensors)
        first = tensors[0]
        key = (place, first.device, first.dtype)
        if key not in self._held or self._held[key].numel() < size:
            self._held[key] = first.new_empty(size)
        parts = self._held[key][:size].split([x.numel() for x in tensors])
        copies = [part.view(x.shape) for part, x in zip(parts, tensors, strict=True)]
        torch._foreach_copy_(copies, list(tensors))
        return copies


def cached(params: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Cut parameters into runs to update together: small ones on a CPU, where memory is slow, all on a GPU."""
    run: list[Tensor] = []
    size = 0
    for p in params:
        if run and p.device.type == "cpu" and size + p.numel() > CACHED:
            yield run
            run = []
            size = 0
        run.append(p)
        size += p.numel()
    if run:
        yield run


def require(owner: object, name: str, value: Any, holds: bool, rule: str) -> None:
    """Refuse a value that breaks its rule."""
    if not holds:
        raise InputError(f"{type(owner).__name__}: {name} must be {rule}; got {name}={value}")


def whole_number(owner: object, name: str, value: Any) -> int:
    """Return a whole number of 1 or more as an int; any integer will do, NumPy's too."""
    try:
        whole = operator.index(value)
    except TypeError:
        whole = 0
    require(
        owner,
        name,
        value,
        whole >= 1 and not isinstance(value, bool),
        "a whole number of 1 or more",
    )
    return whole


def gradient(p: Tensor, maximize: bool) -> Tensor:
    """The gradient to descend, dense and in the precision of the state.

    The parameter's own where that is the same.
    """
    assert p.grad is not None
    g = (p.grad.to_dense() if p.grad.is_sparse else p.grad).to(computation_dtype(p))
    return -g if maximize else g


def zeros(p: Tensor) -> Tensor:
    """A state tensor for a parameter."""
    return torch.zeros_like(p, dtype=computation_dtype(p))


def with_grad(closure: Callable[[], Any] | None) -> Any:
    """The closure's loss, computed with gradients; nothing without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
