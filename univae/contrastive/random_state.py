"""What a second pass needs to draw what the first drew: the generators of every device that takes part.

A generator belongs to a device, so the devices must be known before anything is drawn: those of the
tensors anywhere in the inputs, and those of the weights of every module that the callable reaches.
"""

import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from types import CellType, CodeType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Generators", "devices_of", "modules_of"]


class Generators:
    """The states of the CPU's generator and of those of ``devices``, as they are when this is made."""

    def __init__(self, devices: Iterable[torch.device] = ()) -> None:
        self._states = [(device, _get(device)) for device in (torch.device("cpu"), *devices)]

    def restore(self) -> None:
        """Set the generators back."""
        for device, state in self._states:
            if device.type == "cpu":
                torch.set_rng_state(state)
            else:
                torch.get_device_module(device).set_rng_state(state, *_place(device))


def devices_of(*things: Any) -> list[torch.device]:
    """The devices but the CPU of all tensors in nested structures, and of the weights and buffers of modules."""
    found = {tensor.device: None for tensor in _tensors(things, set())}
    return [device for device in found if device.type not in ("cpu", "meta")]


def modules_of(*things: Any) -> list[nn.Module]:
    """The modules that callables reach: themselves, what they are bound to, close over, or find among their globals.

    Looks five steps far, and at no more than 64 parts of a container.
    """
    found: dict[nn.Module, None] = {}
    seen: set[int] = set()
    frontier: list[Any] = list(things)
    for _ in range(5):
        following: list[Any] = []
        for thing in frontier:
            if id(thing) in seen or isinstance(thing, Tensor | type | ModuleType):
                continue
            seen.add(id(thing))
            if isinstance(thing, nn.Module):
                found[thing] = None
            else:
                following += islice(_mentioned(thing), 64)
        frontier = following
    return list(found)


def _get(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.get_device_module(device).get_rng_state(*_place(device))


def _place(device: torch.device) -> tuple[torch.device, ...]:
    # of which there is one, and its functions take none
    return () if device.type == "mps" else (device,)


def _tensors(thing: Any, seen: set[int]) -> Iterator[Tensor]:
    if id(thing) in seen or isinstance(thing, type | ModuleType):
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, nn.Module):
        yield from thing.parameters()
        yield from thing.buffers()
    else:
        for part in _parts(thing):
            yield from _tensors(part, seen)


def _parts(thing: Any) -> Iterable[Any]:
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, list | tuple | set):
        return thing
    if is_dataclass(thing) and not isinstance(thing, type):
        return [getattr(thing, field.name) for field in fields(thing)]
    return list(getattr(thing, "__dict__", {}).values())


def _mentioned(thing: Any) -> Iterable[Any]:
    if isinstance(thing, functools.partial):
        return (thing.func, *thing.args, *thing.keywords.values())
    if inspect.ismethod(thing):
        return thing.__self__, thing.__func__
    if inspect.isfunction(thing):
        names = [name for name in _names(thing.__code__) if name in thing.__globals__]
        held = [_content(cell) for cell in thing.__closure__ or ()]
        return (*held, *(thing.__globals__[name] for name in names), *(thing.__defaults__ or ()))
    return _parts(thing)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:  # of comprehensions and functions inside
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was put there yet
        return None
