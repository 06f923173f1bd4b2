"""The state that a pass through an encoder reads and changes, so that a second pass repeats it.

These are the random generators and the buffers of modules: running statistics, the vectors of a
spectral norm, counters. Afterwards they are as one pass leaves them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from univae.contrastive.random_state import Generators

__all__ = ["Buffers", "EncoderState"]

Key: TypeAlias = tuple[nn.Module, str]  # the module that owns a buffer, and its name there


class Buffers:
    """The buffers of modules, of which :meth:`observe` finds those that a forward pass changes.

    Only these are copied for every chunk: others, such as tables, may be large.
    """

    def __init__(self) -> None:
        self._initial: dict[Key, Tensor] = {}
        self._changing: list[Key] = []

    def include(self, modules: Iterable[nn.Module]) -> None:
        """Copy the buffers of modules, without their submodules, before they are first called."""
        for module in modules:
            for name, buffer in module.named_buffers(recurse=False):
                if (module, name) not in self._initial:
                    self._initial[module, name] = buffer.clone()

    def observe(self) -> None:
        """Find the buffers that differ from their first copy."""
        for key, value in self._initial.items():
            if key not in self._changing and not torch.equal(_buffer(key), value):
                self._changing.append(key)

    def values(self) -> dict[Key, Tensor]:
        """Return copies of the changing buffers."""
        return {key: _buffer(key).clone() for key in self._changing}

    @torch.no_grad()
    def set(self, values: Mapping[Key, Tensor]) -> None:
        """Set the changing buffers to ``values``, by default to their first copy."""
        for key in self._changing:
            value = values.get(key, self._initial[key])
            buffer = _buffer(key)
            if buffer.shape == value.shape:
                buffer.copy_(value)
            else:
                setattr(*key, value.clone())


class EncoderState:
    """The states of generators and the values of changing buffers at construction."""

    def __init__(self, devices: Sequence[torch.device], buffers: Buffers) -> None:
        self._generators = Generators(devices)
        self._buffers = buffers
        self._values = buffers.values()

    def restore(self) -> None:
        """Set generators and buffers to this state."""
        self._generators.restore()
        self._buffers.set(self._values)


def _buffer(key: Key) -> Tensor:
    module, name = key
    return module.get_buffer(name)
