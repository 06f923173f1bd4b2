"""The forward and backward passes of :func:`univae.contrastive.cached_backward`.

The first pass computes the representations of every chunk without graphs. After the gradients of
the loss at these, the second pass computes each chunk with a graph and its backward pass.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from univae.contrastive.drift import Drift
from univae.contrastive.encoder_state import EncoderState
from univae.contrastive.encoding import Batch, Encoded, Representations
from univae.contrastive.graph_memory import GraphMemory
from univae.contrastive.loss_gradients import Loss, Pending, Root, backward, evaluate, scaled

__all__ = ["first_pass", "second_pass", "single_pass"]


def single_pass(batch: Batch, loss: Loss, scaler: GradScaler | None) -> Tensor:
    """Run one backward pass through the graphs of all chunks, and return the loss."""
    representations = []
    for chunk_index in range(len(batch.chunks)):
        with batch.reduction.reduce_in(chunk_index, batch.reduction.last_chunk):
            representations.append(batch.encode_checked(chunk_index, graph=True, repeats=False))
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
        start = EncoderState(batch.devices, batch.buffers)
        is_kept = chunk_index >= len(batch.chunks) - keep
        reduces = batch.reduction.is_first(chunk_index)
        has_graph = (is_kept or memory.has_room) and not reduces
        measure = memory.measure() if has_graph and not is_kept else nullcontext()
        with batch.reduction.reduce_in(chunk_index, {}), measure:
            # All processes build the first graph through a wrapped module here, even if it is
            # not kept: building it may communicate, and these collectives must not interleave
            # with those of the loss in other processes.
            representations = batch.encode_checked(
                chunk_index, graph=has_graph or reduces, repeats=True
            )
        has_graph = has_graph and (is_kept or memory.reserve())
        if not has_graph:
            representations = representations.detach()
        encoded.append(Encoded(representations, has_graph, start))
    return encoded


def second_pass(batch: Batch, pending: Sequence[Pending], deferred: dict[int, list[Root]]) -> None:
    """Run the backward passes: first through the kept graphs, which frees them, then recomputed.

    A column whose encoder needs no gradient is encoded again for one chunk at most. The states of
    generators and buffers at the call are restored.

    Raises:
        InputError: representations differ from those of the first pass.
    """
    final = EncoderState(batch.devices, batch.buffers)
    with_graph = [i for i, chunk in enumerate(pending) if chunk.has_graph]
    without_graph = [i for i, chunk in enumerate(pending) if not chunk.has_graph]
    without_graph.sort(key=batch.reduction.is_first)
    drift = Drift()
    try:
        backward([root for i in with_graph for root in _roots(pending[i], pending[i].outputs)])
        frozen = {batch.chunks[i].column for i in with_graph if _is_frozen(pending[i].outputs)}
        for chunk_index in without_graph:
            column = batch.chunks[chunk_index].column
            if column in frozen:
                continue
            chunk = pending[chunk_index]
            repeated = _recompute(batch, chunk_index, chunk, deferred.get(chunk_index, []))
            drift.add(column, chunk.outputs, repeated.tensors, repeated.epsilon)
            if _is_frozen(repeated.tensors):
                frozen.add(column)
    finally:
        final.restore()
    drift.refuse()


def _recompute(
    batch: Batch, chunk_index: int, chunk: Pending, deferred: Sequence[Root]
) -> Representations:
    chunk.start.restore()
    with batch.reduction.reduce_in(chunk_index, batch.reduction.first_chunk):
        repeated = batch.encode(chunk_index, graph=True)
        backward([*_roots(chunk, repeated.tensors), *deferred])
    return repeated


def _roots(chunk: Pending, outputs: Sequence[Tensor]) -> list[Root]:
    """Return the tensors where a backward pass through the chunk begins, with their gradients."""
    pairs = zip(outputs, chunk.gradients, strict=True)
    return [(y, g) for y, g in pairs if g is not None and y.requires_grad]


def _is_frozen(outputs: Sequence[Tensor]) -> bool:
    return not any(x.requires_grad for x in outputs)
