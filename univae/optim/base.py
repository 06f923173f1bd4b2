"""The base class of the optimizers: state in at least float32, restored in that precision."""

import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from univae.dtypes import computation_dtype
from univae.errors import InputError

__all__ = [
    "Base",
    "Group",
    "Loss",
    "Options",
    "Parameters",
    "State",
    "StateDict",
    "evaluate",
    "gradient",
    "positive_integer",
    "require",
    "zero_state",
]

# torch.optim.Optimizer keeps options and states in dictionaries of mixed values: tensors, numbers,
# flags and, in a group, the list "params".
Group: TypeAlias = dict[str, Any]  # "params" and their options
Options: TypeAlias = Mapping[str, Any]  # a group that is not changed
State: TypeAlias = dict[str, Any]  # by name, of a parameter or of a moving average
StateDict: TypeAlias = Mapping[str, Any]  # "param_groups", and "state" by the parameter's index

Parameters: TypeAlias = Iterable[Tensor] | Iterable[Group]
Loss = TypeVar("Loss")


class Base(Optimizer):
    """An optimizer whose loaded state keeps its precision.

    ``torch.optim.Optimizer`` casts loaded state to the dtype of the parameter, such as bfloat16.

    Raises:
        InputError: a learning rate or weight decay outside its range.
    """

    def __init__(self, params: Parameters, defaults: Group) -> None:
        lr = defaults["lr"]
        weight_decay = defaults["weight_decay"]
        require(self, "lr", lr, "0 or more", holds=0 <= lr < float("inf"))
        require(self, "weight_decay", weight_decay, "0 or more", holds=weight_decay >= 0)
        super().__init__(params, defaults)

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Load a copy of a saved state, in at least float32.

        Raises:
            InputError: the state is of another optimizer, or of parameters of other shapes; the
                optimizer is then unchanged.
        """
        saved_groups = state_dict["param_groups"]
        saved_states = state_dict["state"]
        self._require_groups(saved_groups)
        indexed: list[tuple[Hashable, Tensor]] = []
        for saved, group in zip(saved_groups, self.param_groups, strict=True):
            for index, p in zip(saved["params"], group["params"], strict=True):
                self._require_state(saved, index, saved_states.get(index, {}), p)
                indexed.append((index, p))

        super().load_state_dict(dict(state_dict))
        for index, p in indexed:
            for name, value in saved_states.get(index, {}).items():
                if isinstance(value, Tensor):
                    self.state[p][name] = value.to(p.device, computation_dtype(p), copy=True)

    def slots(self, group: Options) -> set[str]:
        """Return the names of the state tensors that have their parameter's shape."""
        raise NotImplementedError

    def numbers(self, group: Options) -> set[str]:
        """Return the names of the state entries that are single numbers."""
        raise NotImplementedError

    def _require_groups(self, groups: Sequence[Options]) -> None:
        saved_sizes = [len(group["params"]) for group in groups]
        sizes = [len(group["params"]) for group in self.param_groups]
        rule = f"groups of {sizes} parameters; got groups of {saved_sizes}"
        self._require_saved(rule, holds=saved_sizes == sizes)
        for group in groups:
            missing = sorted(self.defaults.keys() - group.keys())
            rule = f"its options; got a group without {', '.join(missing)}"
            self._require_saved(rule, holds=not missing)

    def _require_state(self, group: Options, index: Hashable, state: State, p: Tensor) -> None:
        if not state:
            return
        names = self.slots(group) | self.numbers(group)
        rule = f"{', '.join(sorted(names))} of parameter {index}; got {', '.join(sorted(state))}"
        self._require_saved(rule, holds=state.keys() == names)
        for name in sorted(self.slots(group)):
            value = state[name]
            shape = tuple(getattr(value, "shape", ()))
            rule = f"{name} of shape {tuple(p.shape)} for parameter {index}; got {shape}"
            has_shape = isinstance(value, Tensor) and shape == tuple(p.shape)
            self._require_saved(rule, holds=has_shape)

    def _require_saved(self, rule: str, *, holds: bool) -> None:
        if not holds:
            name = type(self).__name__
            advice = f"load a state of {name} for these parameters"
            raise InputError(f"{name}: the saved state must have {rule}; {advice}")


def require(owner: object, name: str, value: object, rule: str, *, holds: bool) -> None:
    """Raise :class:`InputError` that an option of ``owner`` breaks its rule, unless ``holds``."""
    if not holds:
        raise InputError(f"{type(owner).__name__}: {name} must be {rule}; got {name}={value}")


def positive_integer(owner: object, name: str, value: object) -> int:
    """Return ``value`` as an int of 1 or more; NumPy's integers are accepted, booleans are not.

    Raises:
        InputError: ``value`` is not an integer, or is less than 1.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    is_positive = number >= 1 and not isinstance(value, bool)
    require(owner, name, value, "a whole number of 1 or more", holds=is_positive)
    return number


def gradient(p: Tensor, *, maximize: bool) -> Tensor:
    """Return the gradient to descend: dense, in the dtype of the state.

    It is ``p.grad`` itself where dtype, layout and sign agree; do not write to it.
    """
    g = p.grad
    assert g is not None
    if g.is_sparse:
        g = g.to_dense()
    dtype = computation_dtype(p)
    if g.dtype != dtype:
        g = g.to(dtype)
    return -g if maximize else g


def zero_state(p: Tensor) -> Tensor:
    """Return zeros of the parameter's shape, in the dtype of the state."""
    return torch.zeros_like(p, dtype=computation_dtype(p))


def evaluate(closure: Callable[[], Loss] | None) -> Loss | None:
    """Return the loss of a closure, computed with gradients; None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
