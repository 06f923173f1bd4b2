"""The optimizer that the settings ask for, with what wraps it."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from experiments.settings import Settings
from univae.optim import EGDD, AccumulatedAdamW, AccumulatedSGD, Tiger, parameter_groups

__all__ = ["Build", "build"]

Build: TypeAlias = Callable[[nn.Module, Settings, torch.device], Optimizer]


def build(module: nn.Module, settings: Settings, device: torch.device) -> Optimizer:
    """The optimizer of ``module``'s trainable parameters; its learning rate is set before every step."""
    groups = parameter_groups(module, settings.weight_decay)
    options: dict[str, Any] = {"lr": settings.lr}
    if settings.optimizer == "egdd":
        options |= {"beta": settings.beta1, "gain_lr": settings.gain_lr, "scale_lr": settings.scale_lr}
        return EGDD(groups, momentum=settings.beta1, **options)
    options["window"] = settings.window
    if settings.optimizer == "sgd":
        return AccumulatedSGD(groups, momentum=settings.beta1, **options)
    if settings.optimizer == "tiger":
        return Tiger(groups, beta=settings.beta1, **options)
    betas = (settings.beta1, settings.beta2)
    if settings.window > 1:
        return AccumulatedAdamW(groups, betas=betas, eps=settings.eps, second_moment=settings.second_moment, **options)
    return torch.optim.AdamW(
        groups, lr=settings.lr, betas=betas, eps=settings.eps, fused=device.type in ("cpu", "cuda")
    )
