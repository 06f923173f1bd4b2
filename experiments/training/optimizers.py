"""The registry of optimizers: how each is built, what state it keeps, which options it refuses.

A new optimizer is one function that creates it and one row of :data:`OPTIMIZERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import nn
from torch.optim import Optimizer

from experiments.training.step_sizes import STEP_SIZES
from univae.errors import InputError
from univae.optim.accumulated import (
    FUSED_DEVICES,
    AccumulatedAdamW,
    AccumulatedSGD,
    SecondMoment,
)
from univae.optim.base import Base
from univae.optim.egdd import EGDD
from univae.optim.parameter_groups import parameter_groups
from univae.optim.tiger import Tiger

__all__ = [
    "OPTIMIZERS",
    "Build",
    "Group",
    "OptimizerKind",
    "OptimizerName",
    "OptimizerOptions",
    "build",
    "state_names",
]


@runtime_checkable
class OptimizerOptions(Protocol):
    """The options of training that optimizers read; ``Settings`` has them."""

    @property
    def optimizer(self) -> "OptimizerName": ...
    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def eps(self) -> float: ...
    @property
    def window(self) -> int: ...
    @property
    def second_moment(self) -> SecondMoment: ...
    @property
    def adapt_step_size(self) -> str: ...
    @property
    def scale_lr(self) -> float: ...
    @property
    def gain_lr(self) -> float: ...


Group: TypeAlias = dict[str, Any]  # parameters and their options, as torch types it
Groups: TypeAlias = list[Group]
Build: TypeAlias = Callable[[nn.Module, OptimizerOptions, torch.device], Optimizer]


@dataclass(frozen=True)
class OptimizerKind:
    """A row of :data:`OPTIMIZERS`."""

    summary: str
    classes: tuple[type[Optimizer], ...]  # of what ``create`` returns
    create: Callable[[Groups, OptimizerOptions, torch.device], Optimizer]
    torch_slots: tuple[str, ...] = ()  # state tensors where the class is torch's own
    has_windows: bool = True  # accumulates --window micro-steps
    is_adaptive: bool = False  # adapts its step sizes itself

    def state_names(self, optimizer: Optimizer) -> set[str]:
        """Return the names of the state that ``optimizer`` keeps of every parameter."""
        if isinstance(optimizer, Base):
            group = optimizer.param_groups[0]
            return optimizer.slots(group) | optimizer.numbers(group)
        return {"step", *self.torch_slots}

    def check(self, options: OptimizerOptions) -> None:
        """Raise :class:`InputError` for options that this optimizer cannot follow."""
        name = options.optimizer
        if options.window > 1 and not self.has_windows:
            raise InputError(
                f"window must be 1 with optimizer={name}, which has no windows; "
                f"got window={options.window}"
            )
        if STEP_SIZES[options.adapt_step_size].adapts and self.is_adaptive:
            raise InputError(
                f"adapt_step_size must be no with optimizer={name}, which adapts by itself; "
                "drop one"
            )


def _adamw(groups: Groups, options: OptimizerOptions, device: torch.device) -> Optimizer:
    betas = (options.beta1, options.beta2)
    if options.window > 1:
        return AccumulatedAdamW(
            groups,
            lr=options.lr,
            betas=betas,
            eps=options.eps,
            window=options.window,
            second_moment=options.second_moment,
        )
    has_fused_kernel = device.type in FUSED_DEVICES
    return torch.optim.AdamW(
        groups, lr=options.lr, betas=betas, eps=options.eps, fused=has_fused_kernel
    )


def _sgd(groups: Groups, options: OptimizerOptions, device: torch.device) -> Optimizer:
    return AccumulatedSGD(groups, lr=options.lr, momentum=options.beta1, window=options.window)


def _tiger(groups: Groups, options: OptimizerOptions, device: torch.device) -> Optimizer:
    return Tiger(groups, lr=options.lr, beta=options.beta1, window=options.window)


def _egdd(groups: Groups, options: OptimizerOptions, device: torch.device) -> Optimizer:
    return EGDD(
        groups,
        lr=options.lr,
        momentum=options.beta1,
        beta=options.beta1,
        gain_lr=options.gain_lr,
        scale_lr=options.scale_lr,
    )


OPTIMIZERS: Mapping[str, OptimizerKind] = {
    "adamw": OptimizerKind(
        "steps normalised by the mean squared gradient, the usual choice",
        (torch.optim.Adam, AccumulatedAdamW),
        _adamw,
        torch_slots=("exp_avg", "exp_avg_sq"),
    ),
    "sgd": OptimizerKind("gradient descent with momentum", (AccumulatedSGD,), _sgd),
    "tiger": OptimizerKind(
        "the sign of the momentum, one state tensor per parameter", (Tiger,), _tiger
    ),
    "egdd": OptimizerKind(
        "sgd that learns its step sizes",
        (EGDD,),
        _egdd,
        has_windows=False,
        is_adaptive=True,
    ),
}

if TYPE_CHECKING:
    OptimizerName: TypeAlias = str
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]


def build(module: nn.Module, options: OptimizerOptions, device: torch.device) -> Optimizer:
    """Return the optimizer of ``module``'s trainable parameters.

    Biases, norms and embeddings have no weight decay. The learning rate is a placeholder: training
    sets it before every step.
    """
    groups = parameter_groups(module, options.weight_decay)
    return OPTIMIZERS[options.optimizer].create(groups, options, device)


def state_names(optimizer: Optimizer) -> set[str]:
    """Return the names of the state that an optimizer must hold of every parameter.

    For an optimizer in no row of :data:`OPTIMIZERS` this is the step count alone.
    """
    optimizer = getattr(optimizer, "optim", optimizer)  # of a ZeroRedundancyOptimizer
    for kind in OPTIMIZERS.values():
        if isinstance(optimizer, kind.classes):
            return kind.state_names(optimizer)
    return {"step"}
