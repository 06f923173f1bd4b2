"""States of random generators, so that a second pass over a chunk draws what the first one drew.

A generator belongs to a device, so the devices must be known before anything is drawn: those of all
tensors in the inputs, and those of the weights of the encoder's modules.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

__all__ = ["Generators", "devices_of"]


class Generators:
    """The states of the CPU's default generator and of those of ``devices`` at construction."""

    def __init__(self, devices: Iterable[torch.device] = ()) -> None:
        self._states = [(device, _get_state(device)) for device in (torch.device("cpu"), *devices)]

    def restore(self) -> None:
        """Set the generators back to these states."""
        for device, state in self._states:
            if device.type == "cpu":
                torch.set_rng_state(state)
            else:
                torch.get_device_module(device).set_rng_state(state, *_device_argument(device))


def devices_of(*values: object) -> list[torch.device]:
    """Return the devices, without the CPU, of tensors, weights and buffers in nested values."""
    devices = dict.fromkeys(tensor.device for tensor in _tensors(values, set()))
    return [device for device in devices if device.type not in ("cpu", "meta")]


def _get_state(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    state: Tensor = torch.get_device_module(device).get_rng_state(*_device_argument(device))
    return state


def _device_argument(device: torch.device) -> tuple[torch.device, ...]:
    # torch.mps has one device, and its functions take no argument.
    return () if device.type == "mps" else (device,)


def _tensors(value: object, seen: set[int]) -> Iterator[Tensor]:
    """Yield the tensors in a value; ``seen`` holds the ids of values that were visited."""
    if id(value) in seen or isinstance(value, type | ModuleType):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    else:
        for element in _elements(value):
            yield from _tensors(element, seen)


def _elements(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return list(getattr(value, "__dict__", {}).values())
