"""The mode of a module, training or evaluation, while a block runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Set modules to evaluation mode while the block runs, then restore each submodule's mode."""
    modes: dict[nn.Module, bool] = {}
    for module in modules:
        modes |= {submodule: submodule.training for submodule in module.modules()}
        module.eval()
    try:
        yield
    finally:
        for submodule, mode in modes.items():
            submodule.training = mode
