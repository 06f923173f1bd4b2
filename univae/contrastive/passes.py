"""The two passes over the chunks of a batch, which :func:`univae.contrastive.cached_backward` leads through."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from univae.contrastive.data_parallel import Averaging, leaves_of
from univae.contrastive.graph_memory import Budget
from univae.contrastive.random_state import Generators, devices_of
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["Chunk", "Encode", "Loss", "TwoPasses"]

# Maps the inputs of a chunk to its representations: a tensor with a row each, or a tuple of such
# tensors.
Encode: TypeAlias = Callable[[Any], Any]

# Maps the representations of each column to a scalar.
Loss: TypeAlias = Callable[..., Tensor]

# how far, relatively, representations may differ between passes: kernels differ less, other noise
# more
DRIFT = 0.01


@dataclass(eq=False)
class Chunk:
    """The inputs of some rows, and what the passes find out about them."""

    column: int
    encode: Encode
    inputs: Any
    rows: Sequence[int] | None  # of its column; None where the caller cut it
    generators: Generators = field(default_factory=Generators)  # as the first pass found them
    outputs: tuple[Tensor, ...] = ()
    gradients: tuple[Tensor | None, ...] = ()
    kept: bool = False
    bare: bool = True  # whether the encoder gives a tensor, and no tuple

    def forward(self) -> tuple[Tensor, ...]:
        given = self.encode(self.inputs)
        self.bare = isinstance(given, Tensor)
        parts = (given,) if self.bare else given
        if not (
            isinstance(parts, tuple | list) and parts and all(_has_rows(part) for part in parts)
        ):
            raise InputError(
                f"cached_backward: encode returned {_described(given)}; return a tensor or a tuple"
            )
        counts = [len(part) for part in parts] + ([len(self.rows)] if self.rows else [])
        if len(set(counts)) != 1:
            raise InputError(
                f"cached_backward: encode must give one row for each of a chunk; got {counts} rows"
            )
        return tuple(_widen(part) for part in parts)

    def roots(self, outputs: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        """Where a backward pass through the chunk begins, and the gradients there."""
        pairs = zip(outputs, self.gradients, strict=True)
        return [(y, g) for y, g in pairs if g is not None and y.requires_grad]


class TwoPasses:
    """Encodes, differentiates the loss at the representations, and encodes again what kept no graph."""

    def __init__(self, chunks: list[Chunk], modules: list[nn.Module], averaging: Averaging) -> None:
        self.chunks = chunks
        self.modules = modules
        self.averaging = averaging
        self.columns = [[c for c in chunks if c.column == i] for i in range(chunks[-1].column + 1)]
        self.devices = devices_of([chunk.inputs for chunk in chunks], modules)
        # by place: parameters of the loss, and gradients
        self.waiting: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self.frozen: set[int] = set()  # columns whose encoder needs no gradient
        self._had_graph = False

    def ordinary(self, loss: Loss, scaler: GradScaler | None) -> Tensor:
        """One backward pass through all graphs."""
        for place, chunk in enumerate(self.chunks):
            with self.averaging.only(place, self.averaging.ending):
                chunk.outputs = self._forward(chunk, graph=True)
        value = self._evaluate(loss, [_joined(chunks) for chunks in self.columns])
        _scaled(value, scaler).backward()
        return value.detach()

    def encode(self, keep: int, keep_bytes: int) -> None:
        """The first pass: every chunk's representations, and the graphs there is room for."""
        budget = Budget(keep_bytes, (p for module in self.modules for p in module.parameters()))
        for place, chunk in enumerate(self.chunks):
            chunk.generators = Generators(self.devices)
            last = place >= len(self.chunks) - keep
            opens = self.averaging.opens(place)
            # what opens is computed again, at the end, to average
            chunk.kept = (last or budget.room) and not opens
            with (
                self.averaging.only(place),
                budget.measure() if chunk.kept and not last else nullcontext(),
            ):
                # Every process builds the first graph through a wrapped module here, whatever it
                # keeps: they may talk while they build it, and must not meet one that is already in
                # the loss.
                chunk.outputs = self._forward(chunk, graph=chunk.kept or opens)
            chunk.kept = chunk.kept and (last or budget.take())
            if not chunk.kept:
                chunk.outputs = tuple(part.detach() for part in chunk.outputs)

    def differentiate(self, loss: Loss, scaler: GradScaler | None) -> Tensor:
        """Leave each chunk the gradient at its representations.

        Adds those of the loss's own parameters.
        """
        leaves = [tuple(_leaf(part) for part in _joined(chunks)) for chunks in self.columns]
        value = self._evaluate(loss, leaves)
        self._backward(
            _scaled(value, scaler), [x for parts in leaves for x in parts if x.requires_grad]
        )
        for chunks, parts in zip(self.columns, leaves, strict=True):
            counts = [len(chunk.outputs[0]) for chunk in chunks]
            gradients = zip(*(_split(part.grad, counts) for part in parts), strict=True)
            values = zip(*(part.detach().split(counts) for part in parts), strict=True)
            for chunk, gradient, own in zip(chunks, gradients, values, strict=True):
                chunk.gradients = gradient
                chunk.outputs = chunk.outputs if chunk.kept else own
        return value.detach()

    def encode_again(self) -> None:
        """The second pass: first through the graphs that were kept, which frees them, then chunk by chunk."""
        after = Generators(self.devices)
        try:
            self._finish_kept()
            again = [place for place, chunk in enumerate(self.chunks) if not chunk.kept]
            drifts = [self._again(place) for place in sorted(again, key=self.averaging.opens)]
        finally:
            after.restore()
        gap, size = (float(sum(squares)) for squares in zip((0.0, 1e-300), *drifts, strict=True))
        if gap > DRIFT**2 * size:
            raise InputError(
                f"cached_backward: encode gave other representations in the second pass, at a relative distance of "
                f"{math.sqrt(gap / size):.2g}, so the gradients now in .grad are wrong; let it draw from torch's "
                f"default generators alone, and read no state that it changes"
            )

    def _finish_kept(self) -> None:
        kept = [chunk for chunk in self.chunks if chunk.kept]
        _backward([root for chunk in kept for root in chunk.roots(chunk.outputs)])
        for chunk in kept:
            self._note(chunk)

    def _again(self, place: int) -> tuple[float | Tensor, float | Tensor]:
        chunk = self.chunks[place]
        if chunk.column in self.frozen:
            return 0.0, 0.0
        chunk.generators.restore()
        with self.averaging.only(place, self.averaging.opening):
            outputs = self._forward(chunk, graph=True)
            _backward(chunk.roots(outputs) + self.waiting.get(place, []))
        first = chunk.outputs
        chunk.outputs = outputs
        self._note(chunk)
        return _drift(first, outputs)

    def _note(self, chunk: Chunk) -> None:
        if not any(part.requires_grad for part in chunk.outputs):
            self.frozen.add(chunk.column)
        chunk.outputs = ()

    def _forward(self, chunk: Chunk, graph: bool) -> tuple[Tensor, ...]:
        with self._grad(graph):
            outputs = chunk.forward()
        for part in outputs:
            if part.device.type != "cpu" and part.device not in self.devices:
                raise InputError(
                    f"cached_backward: encode computes on {part.device}, which neither its inputs nor the modules it "
                    f"mentions show; give a module, a method of one, or a function that names one"
                )
        return outputs

    def _evaluate(self, loss: Loss, parts: list[tuple[Tensor, ...]]) -> Tensor:
        pairs = zip(self.columns, parts, strict=True)
        with self._grad(True):
            value = loss(*(_in_order(chunks, column) for chunks, column in pairs))
        if value.numel() != 1 or not value.requires_grad:
            raise InputError(
                f"cached_backward: the loss must be a scalar computed from the representations; got shape "
                f"{tuple(value.shape)}, requires_grad={value.requires_grad}"
            )
        return value

    def _grad(self, enabled: bool) -> torch.set_grad_enabled:
        if enabled and not self._had_graph:
            # in some versions, weights that were cast without a graph get no gradient
            torch.clear_autocast_cache()
        self._had_graph = enabled
        return torch.set_grad_enabled(enabled)

    def _backward(self, scaled: Tensor, leaves: list[Tensor]) -> None:
        if not self.averaging.opening:
            scaled.backward()
            return
        known = {id(leaf) for leaf in leaves}
        own = [p for p in leaves_of(scaled) if id(p) not in known]
        gradients = torch.autograd.grad(scaled, [*leaves, *own], allow_unused=True)
        for leaf, gradient in zip(leaves, gradients, strict=False):
            leaf.grad = gradient
        found = [
            (p, g) for p, g in zip(own, gradients[len(leaves) :], strict=True) if g is not None
        ]
        places = [self.averaging.place_of(p) for p, _ in found]
        _backward([root for root, place in zip(found, places, strict=True) if place is None])
        for root, place in zip(found, places, strict=True):
            if place is not None:
                self.waiting.setdefault(place, []).append(root)


def _has_rows(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim > 0


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        inside = ", ".join(sorted({_described(part) for part in value})) or "nothing"
        return f"a {type(value).__name__} of {inside}"
    if isinstance(value, Tensor):
        return "a tensor" if value.ndim else "a tensor without rows"
    return "nothing" if value is None else f"a {type(value).__name__}"


def _backward(roots: list[tuple[Tensor, Tensor]]) -> None:
    if roots:
        torch.autograd.backward([y for y, _ in roots], [g for _, g in roots])


@torch.no_grad()
def _drift(
    first: tuple[Tensor, ...], second: tuple[Tensor, ...]
) -> tuple[float | Tensor, float | Tensor]:
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a.is_floating_point()]
    return sum((b - a).square().sum() for a, b in pairs), sum(a.square().sum() for a, _ in pairs)


def _scaled(value: Tensor, scaler: GradScaler | None) -> Tensor:
    return value if scaler is None else scaler.scale(value)


def _joined(chunks: list[Chunk]) -> tuple[Tensor, ...]:
    return tuple(
        torch.cat(parts) for parts in zip(*(chunk.outputs for chunk in chunks), strict=True)
    )


def _in_order(chunks: list[Chunk], parts: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    places = [row for chunk in chunks for row in chunk.rows or ()]
    if places != sorted(places):
        order = torch.tensor(places).argsort().to(parts[0].device)
        parts = tuple(part[order] for part in parts)
    return parts[0] if chunks[0].bare else parts


def _widen(x: Tensor) -> Tensor:
    return at_least_float32(x) if x.is_floating_point() else x


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_(x.is_floating_point())


def _split(x: Tensor | None, counts: list[int]) -> Sequence[Tensor | None]:
    return [None] * len(counts) if x is None else x.split(counts)
