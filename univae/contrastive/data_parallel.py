"""One average over processes a step for each module under ``DistributedDataParallel``, however many backward passes.

A wrapped module averages in the backward pass that follows a forward pass outside of its
``no_sync``. Every parameter must take part in that one pass, also those that only the loss reads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from univae.contrastive.random_state import modules_of
from univae.errors import InputError

__all__ = ["Averaging", "leaves_of", "wrapped_in"]


def wrapped_in(encode: Callable[..., Any]) -> list[DistributedDataParallel]:
    """The wrapped modules that a callable reaches."""
    parts = (part for module in modules_of(encode) for part in module.modules())
    found = list(dict.fromkeys(part for part in parts if isinstance(part, DistributedDataParallel)))
    if any(part.static_graph for part in found):
        raise InputError(
            "cached_backward: a static graph has one backward pass a step, and this has one a chunk; "
            "wrap the module without static_graph=True"
        )
    return found


class Averaging:
    """Which place in the order of chunks opens, and which closes, the step of each wrapped module."""

    def __init__(self, wrapped: Sequence[Sequence[DistributedDataParallel]]) -> None:
        self.wrapped = wrapped  # of every chunk
        self.opening: dict[DistributedDataParallel, int] = {}
        self.ending: dict[DistributedDataParallel, int] = {}
        for place, modules in enumerate(wrapped):
            for module in modules:
                self.opening.setdefault(module, place)
                self.ending[module] = place

    @property
    def in_one(self) -> bool:
        """Whether one backward pass of all will do: to look for unused parameters misses those of the loss."""
        return not any(module.find_unused_parameters for module in self.opening)

    @contextmanager
    def only(
        self, place: int, now: dict[DistributedDataParallel, int] | None = None
    ) -> Iterator[None]:
        """Inside, a pass over the chunk averages no module but those for which ``now`` names this place."""
        with ExitStack() as stack:
            for module in self.wrapped[place]:
                if now is None or now[module] != place:
                    stack.enter_context(module.no_sync())
            yield

    def opens(self, place: int) -> bool:
        """Whether the chunk is the first through some wrapped module."""
        return any(self.opening[module] == place for module in self.wrapped[place])

    def place_of(self, parameter: Tensor) -> int | None:
        """The place of the chunk whose second pass averages a parameter, if that pass must see it there.

        A module that looks for unused parameters remembers by itself which were used before.
        """
        for module, place in self.opening.items():
            if not module.find_unused_parameters and any(
                p is parameter for p in module.parameters()
            ):
                return place
        return None


def leaves_of(result: Tensor) -> list[Tensor]:
    """The leaf tensors that a result was computed from and has a gradient for."""
    found: dict[Tensor, None] = {}
    stack: list[Any] = [result.grad_fn]
    seen = {None}
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[node.variable] = None
        stack.extend(following for following, _ in node.next_functions)
    return list(found)
