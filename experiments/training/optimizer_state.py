"""The state of an optimizer in ``optimizer.pt``, which is checked before any of it is loaded.

Fused kernels read and write as many numbers of the state as the parameter has, whatever the shape
of the state: a state of another shape would corrupt memory.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from experiments.training.optimizers import Group, state_names
from univae.errors import InputError

__all__ = ["check_state", "restore"]

SCALARS = ("step", "scale", "count")  # state of one number a parameter
AVERAGES = ("exp_avg", "exp_avg_sq", "momentum_buffer")  # state of a number for each of its weights
# options of a group that change while it trains
PROGRESS = ("position", "opened", "opened_with", "lr")
ADVICE = "the file is damaged or of another run: copy it again"


def restore(optimizer: Optimizer, state: object, step: int) -> None:
    """Load the state saved after ``step`` steps, once all of it is checked.

    Options such as decays stay those of the configuration.

    Raises:
        InputError: the state is of another optimizer, or a tensor has another shape, type or
            layout; nothing is changed then.
    """
    saved_groups, entries = _groups_and_entries(state)
    groups = optimizer.param_groups
    parameters = [p for group in groups for p in group["params"]]
    sizes = [len(group["params"]) for group in groups]
    if [len(group["params"]) for group in saved_groups] != sizes:
        raise InputError(f"optimizer.pt: is not of the model's {sizes} parameters; {ADVICE}")
    if parameters and step > 0 and not entries:
        raise InputError(f"optimizer.pt: holds no averages after {step} steps; {ADVICE}")

    names = state_names(optimizer)
    for index, entry in entries.items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise InputError(f"optimizer.pt: has a state of parameter {index!r}; {ADVICE}")
        check_state(entry, parameters[index], names, f"parameter {index}")

    restored_groups = []
    for group, saved in zip(groups, saved_groups, strict=True):
        restored_groups.append(_restored_group(group, saved))
    optimizer.load_state_dict({"state": entries, "param_groups": restored_groups})


def check_state(entry: object, parameter: Tensor, names: Collection[str], owner: str) -> None:
    """Check the state of one parameter, which ``owner`` names in messages.

    Raises:
        InputError: ``entry`` lacks one of ``names``, or holds anything but numbers and dense real
            tensors of the parameter's shape.
    """
    if not isinstance(entry, Mapping) or not set(names) <= entry.keys():
        missing = ", ".join(sorted(names))
        raise InputError(f"optimizer.pt: the state of {owner} lacks {missing}; {ADVICE}")
    for name, value in entry.items():
        if isinstance(value, bool | int | float) and name not in AVERAGES:
            continue
        shape = () if name in SCALARS else tuple(parameter.shape)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"optimizer.pt: {name} of {owner} must have the shape {shape}; got {got}; {ADVICE}"
            )
        if not (_is_dense(value, parameter) and value.dtype.is_floating_point):
            raise InputError(
                f"optimizer.pt: {name} of {owner} must be dense real numbers; "
                f"got {value.dtype}; {ADVICE}"
            )


def _is_dense(value: Tensor, parameter: Tensor) -> bool:
    if value.layout != torch.strided:
        return False
    return value.is_contiguous() or value.stride() == parameter.stride()


def _restored_group(group: Group, saved: Group) -> Group:
    """Return the options of ``group`` with the saved progress, where that is of the same type."""
    options = {**group, "params": saved["params"]}
    for name in PROGRESS:
        if name in options and type(saved.get(name)) is type(options[name]):
            options[name] = saved[name]
    return options


def _groups_and_entries(state: object) -> tuple[list[Group], dict[object, object]]:
    """Return the groups of a state from a file, and the state of each parameter by its index."""
    if not isinstance(state, Mapping):
        raise InputError(f"optimizer.pt: not the state of an optimizer; {ADVICE}")
    try:
        groups = []
        for group in state["param_groups"]:
            groups.append(dict(group) | {"params": list(group["params"])})
        return groups, dict(state["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"optimizer.pt: not the state of an optimizer; {ADVICE}") from error
