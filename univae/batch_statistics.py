"""Modules that normalise with batch statistics, so that a row's output depends on other rows."""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["batch_normalised"]


def batch_normalised(modules: Iterable[object]) -> str | None:
    """Return the type and the name of the first submodule that mixes the rows of a batch.

    A BatchNorm mixes them in training mode, and always where it has no moving statistics. Objects
    that are not modules are skipped. Returns ``None`` if no submodule mixes rows.
    """
    for module in modules:
        if not isinstance(module, nn.Module):
            continue
        for name, child in module.named_modules():
            if isinstance(child, _BatchNorm) and (child.training or child.running_mean is None):
                return f"{type(child).__name__} {name or 'itself'}"
    return None
