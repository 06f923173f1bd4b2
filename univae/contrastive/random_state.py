"""States of random generators, so that a second pass over a chunk repeats its random numbers.

Every device has a generator. The devices are those of all tensors in the inputs and of the weights
of the encoder's modules.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

__all__ = ["Generators", "devices_of"]

HOST = torch.device("cpu")

WITHOUT_GENERATOR = frozenset({"meta"})  # types of devices that compute nothing
SINGLE = frozenset({"mps"})  # types of which a machine has one, whose functions take no device


class Generators:
    """The states of the CPU's default generator and of those of ``devices`` at construction."""

    def __init__(self, devices: Iterable[torch.device] = ()) -> None:
        self._states = [(device, _get_state(device)) for device in (HOST, *devices)]

    def restore(self) -> None:
        """Set the generators to these states."""
        for device, state in self._states:
            if device == HOST:
                torch.set_rng_state(state)
            else:
                torch.get_device_module(device).set_rng_state(state, *_device_argument(device))


def devices_of(*values: object) -> list[torch.device]:
    """Return the devices, without the CPU, of tensors, weights and buffers in nested values."""
    devices = dict.fromkeys(tensor.device for tensor in _tensors(values, set()))
    return [device for device in devices if _has_own_generator(device)]


def _has_own_generator(device: torch.device) -> bool:
    return device != HOST and device.type not in WITHOUT_GENERATOR


def _get_state(device: torch.device) -> Tensor:
    if device == HOST:
        return torch.get_rng_state()
    state: Tensor = torch.get_device_module(device).get_rng_state(*_device_argument(device))
    return state


def _device_argument(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type in SINGLE else (device,)


def _tensors(value: object, visited: set[int]) -> Iterator[Tensor]:
    """Yield the tensors in a value; ``visited`` holds the ids of earlier values."""
    if id(value) in visited or isinstance(value, type | ModuleType):
        return
    visited.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    else:
        for element in _elements(value):
            yield from _tensors(element, visited)


def _elements(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return list(getattr(value, "__dict__", {}).values())
