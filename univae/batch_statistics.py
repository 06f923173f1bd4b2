"""Modules that normalise with the statistics of their batch, so that no row's output is of that row alone."""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["batch_normalised"]


def batch_normalised(modules: Iterable[object]) -> str | None:
    """Return the type and the name of the first part that mixes the rows of its batch, or None where none does.

    A BatchNorm mixes them while it trains, and always where it keeps no moving statistics. What is
    no module is passed over: a plain function shows nothing.
    """
    for module in modules:
        for name, part in module.named_modules() if isinstance(module, nn.Module) else ():
            if isinstance(part, _BatchNorm) and (part.training or part.running_mean is None):
                return f"{type(part).__name__} {name or 'itself'}"
    return None
