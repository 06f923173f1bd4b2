"""The forward and backward passes of :func:`univae.contrastive.cached_backward`.

The first pass computes the representations of every chunk without graphs. After the gradients of
the loss at these, the second pass computes each chunk with a graph and its backward pass.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from univae.contrastive.encoding import Batch, Encoded
from univae.contrastive.graph_memory import GraphMemory
from univae.contrastive.loss_gradients import Loss, Pending, Root, backward, evaluate, scaled
from univae.contrastive.random_state import Generators
from univae.errors import InputError

__all__ = ["first_pass", "second_pass", "single_pass"]

# The relative distance of representations between passes above which they count as different:
# nondeterministic kernels differ by less, random numbers that are not repeated by more.
MAX_DRIFT = 0.01

TINY = 1e-300  # keeps a relative distance of zeros finite


def single_pass(batch: Batch, loss: Loss, scaler: GradScaler | None) -> Tensor:
    """Run one backward pass through the graphs of all chunks, and return the loss."""
    representations = []
    for chunk_index in range(len(batch.chunks)):
        with batch.reduction.reduce_in(chunk_index, batch.reduction.last_chunk):
            representations.append(
                batch.encode_checked(chunk_index, graph=True, mixes_rows=batch.is_whole)
            )
    value = evaluate(batch, loss, batch.concatenated(representations))
    torch.autograd.backward(scaled(value, scaler))
    return value.detach()


def first_pass(batch: Batch, keep: int, keep_bytes: int) -> list[Encoded]:
    """Encode every chunk; keep the graphs of the last ``keep``, and of as many as the bytes allow.

    The first chunk through a module under ``DistributedDataParallel`` keeps no graph: its second
    pass comes last, and averages the gradients.
    """
    weights = (p for module in batch.modules for p in module.parameters())
    memory = GraphMemory(keep_bytes, weights)
    encoded = []
    for chunk_index in range(len(batch.chunks)):
        generators = Generators(batch.devices)
        is_kept = chunk_index >= len(batch.chunks) - keep
        reduces = batch.reduction.is_first(chunk_index)
        has_graph = (is_kept or memory.has_room) and not reduces
        measure = memory.measure() if has_graph and not is_kept else nullcontext()
        with batch.reduction.reduce_in(chunk_index, {}), measure:
            # All processes build the first graph through a wrapped module here, even if it is
            # not kept: building it may communicate, and these collectives must not interleave
            # with those of the loss in other processes.
            representations = batch.encode_checked(chunk_index, graph=has_graph or reduces)
        has_graph = has_graph and (is_kept or memory.reserve())
        if not has_graph:
            representations = representations.detach()
        encoded.append(Encoded(representations, has_graph, generators))
    return encoded


def second_pass(batch: Batch, pending: Sequence[Pending], deferred: dict[int, list[Root]]) -> None:
    """Run the backward passes: first through the kept graphs, which frees them, then recomputed.

    A column whose encoder needs no gradient is encoded again for one chunk at most. The states of
    the generators at the call are restored.

    Raises:
        InputError: representations differ from those of the first pass.
    """
    final_generators = Generators(batch.devices)
    with_graph = [i for i, chunk in enumerate(pending) if chunk.has_graph]
    without_graph = [i for i, chunk in enumerate(pending) if not chunk.has_graph]
    without_graph.sort(key=batch.reduction.is_first)
    distances: list[float | Tensor] = [0.0]
    sizes: list[float | Tensor] = [TINY]
    try:
        backward([root for i in with_graph for root in _roots(pending[i], pending[i].outputs)])
        frozen = {batch.chunks[i].column for i in with_graph if _is_frozen(pending[i].outputs)}
        for chunk_index in without_graph:
            column = batch.chunks[chunk_index].column
            if column in frozen:
                continue
            recomputed = _recompute(
                batch, chunk_index, pending[chunk_index], deferred.get(chunk_index, [])
            )
            distances.append(recomputed.distance)
            sizes.append(recomputed.size)
            if recomputed.is_frozen:
                frozen.add(column)
    finally:
        final_generators.restore()
    _refuse_drift(float(sum(distances)), float(sum(sizes)))


class _Recomputed(NamedTuple):
    """The outputs of two passes over a chunk, compared by squared norms of floating-point ones."""

    distance: float | Tensor  # of the outputs from those of the first pass
    size: float | Tensor  # of the outputs of the first pass
    is_frozen: bool  # whether no output needs a gradient


def _recompute(
    batch: Batch, chunk_index: int, chunk: Pending, deferred: Sequence[Root]
) -> _Recomputed:
    chunk.generators.restore()
    with batch.reduction.reduce_in(chunk_index, batch.reduction.first_chunk):
        outputs = batch.encode(chunk_index, graph=True).tensors
        backward([*_roots(chunk, outputs), *deferred])
    with torch.no_grad():
        pairs = zip(chunk.outputs, outputs, strict=True)
        floats = [(a, b) for a, b in pairs if a.is_floating_point()]
        distance = sum((b - a).square().sum() for a, b in floats)
        size = sum(a.square().sum() for a, _ in floats)
    return _Recomputed(distance, size, _is_frozen(outputs))


def _refuse_drift(distance: float, size: float) -> None:
    if distance > MAX_DRIFT**2 * size:
        raise InputError(
            "cached_backward: the second pass of encode returned other representations, at a "
            f"relative distance of {math.sqrt(distance / size):.2g}, so the gradients in .grad are "
            "wrong; use torch's default generators alone in encode, and no state that it changes"
        )


def _roots(chunk: Pending, outputs: Sequence[Tensor]) -> list[Root]:
    """Return the tensors where a backward pass through the chunk begins, with their gradients."""
    pairs = zip(outputs, chunk.gradients, strict=True)
    return [(y, g) for y, g in pairs if g is not None and y.requires_grad]


def _is_frozen(outputs: Sequence[Tensor]) -> bool:
    return not any(x.requires_grad for x in outputs)
