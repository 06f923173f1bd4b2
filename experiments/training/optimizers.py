"""The optimizer that the settings ask for, with what wraps it."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.training.settings import Settings
from univae.errors import InputError
from univae.optim.accumulated import AccumulatedAdamW, AccumulatedSGD
from univae.optim.egdd import EGDD
from univae.optim.parameter_groups import parameter_groups
from univae.optim.tiger import Tiger
from univae.optim.windowed import Windowed

__all__ = ["Build", "build", "check_state", "restore"]

_SCALARS = ("step", "scale", "count")  # state of one number a parameter
_PROGRESS = ("position", "opened", "lr")  # options of a group that change while it trains
_ANOTHER = "the file is damaged or of another run: copy it again"

Build: TypeAlias = Callable[[nn.Module, Settings, torch.device], Optimizer]


def restore(optimizer: Optimizer, state: Any, step: int) -> None:
    """Fill an optimizer with the state saved after ``step`` steps, once all of it is known to fit.

    Fused kernels read and write as many numbers as the parameter has and do not look at the shape
    of the state: a state of another shape would corrupt memory. Options, decays say, stay the
    optimizer's own.

    Raises:
        InputError: the state is of another optimizer, or a tensor has another shape, type or
            layout.
    """
    groups = optimizer.param_groups
    parameters = [p for group in groups for p in group["params"]]
    saved_groups, entries = _taken_apart(state)
    sizes = [len(group["params"]) for group in groups]
    if [len(group["params"]) for group in saved_groups] != sizes:
        raise InputError(f"optimizer.pt: is not of the model's {sizes} parameters; {_ANOTHER}")
    if parameters and step > 0 and not entries:
        raise InputError(f"optimizer.pt: holds no averages after {step} steps; {_ANOTHER}")
    names = _state_names(optimizer)
    for index, entry in entries.items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise InputError(f"optimizer.pt: has a state of parameter {index!r}; {_ANOTHER}")
        check_state(entry, parameters[index], names, f"parameter {index}")
    options = []
    for group, saved in zip(groups, saved_groups, strict=True):
        own = {name: value for name, value in group.items() if name != "params"}
        progress = {
            name: saved[name]
            for name in _PROGRESS
            if name in own and type(saved.get(name)) is type(own[name])
        }
        options.append(own | progress | {"params": saved["params"]})
    optimizer.load_state_dict({"state": entries, "param_groups": options})


def check_state(entry: Any, parameter: Tensor, names: Collection[str], owner: str) -> None:
    """Raise :class:`InputError` unless ``entry`` holds all ``names`` and only numbers and fitting tensors."""
    if not isinstance(entry, Mapping) or not set(names) <= entry.keys():
        raise InputError(f"optimizer.pt: the state of {owner} lacks {', '.join(names)}; {_ANOTHER}")
    for name, value in entry.items():
        if isinstance(value, bool | int | float):
            continue
        shape = () if name in _SCALARS else tuple(parameter.shape)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"optimizer.pt: {name} of {owner} must have the shape {shape}; got {got}; {_ANOTHER}"
            )
        dense = value.layout == torch.strided and (
            value.is_contiguous() or value.stride() == parameter.stride()
        )
        if not (dense and value.dtype.is_floating_point):
            raise InputError(
                f"optimizer.pt: {name} of {owner} must be dense real numbers; got {value.dtype}; {_ANOTHER}"
            )


def _taken_apart(state: Any) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    try:
        groups = [
            dict(group) | {"params": list(group["params"])} for group in state["param_groups"]
        ]
        return groups, dict(state["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"optimizer.pt: not the state of an optimizer; {_ANOTHER}") from error


def _state_names(optimizer: Optimizer) -> set[str]:
    """What the optimizer keeps for every parameter."""
    if isinstance(optimizer, Windowed):
        return {"step", "open", "skipped", *optimizer.decays(optimizer.param_groups[0])}
    if isinstance(optimizer, torch.optim.Adam):  # AdamW too
        return {"step", "exp_avg", "exp_avg_sq"}
    return {"step"}


def build(module: nn.Module, settings: Settings, device: torch.device) -> Optimizer:
    """The optimizer of ``module``'s trainable parameters.

    Its learning rate is set before every step.
    """
    groups = parameter_groups(module, settings.weight_decay)
    options: dict[str, Any] = {"lr": settings.lr}
    if settings.optimizer == "egdd":
        options |= {
            "beta": settings.beta1,
            "gain_lr": settings.gain_lr,
            "scale_lr": settings.scale_lr,
        }
        return EGDD(groups, momentum=settings.beta1, **options)
    options["window"] = settings.window
    if settings.optimizer == "sgd":
        return AccumulatedSGD(groups, momentum=settings.beta1, **options)
    if settings.optimizer == "tiger":
        return Tiger(groups, beta=settings.beta1, **options)
    betas = (settings.beta1, settings.beta2)
    if settings.window > 1:
        return AccumulatedAdamW(
            groups, betas=betas, eps=settings.eps, second_moment=settings.second_moment, **options
        )
    return torch.optim.AdamW(
        groups, lr=settings.lr, betas=betas, eps=settings.eps, fused=device.type in ("cpu", "cuda")
    )
