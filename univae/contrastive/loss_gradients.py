"""The loss of all representations, and its gradients, by chunk of the second pass."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from univae.contrastive.data_parallel import leaves_of
from univae.contrastive.encoder_state import EncoderState
from univae.contrastive.encoding import Batch, Encoded, Representations
from univae.errors import InputError

__all__ = [
    "Loss",
    "LossGradients",
    "Pending",
    "Root",
    "backward",
    "evaluate",
    "loss_gradients",
    "scaled",
]

# Maps the representations of each column to a scalar.
Loss: TypeAlias = Callable[..., Tensor]

# A tensor where a backward pass begins, and the gradient there.
Root: TypeAlias = tuple[Tensor, Tensor]


class Pending(NamedTuple):
    """A chunk without its backward pass."""

    outputs: tuple[Tensor, ...]  # of the first pass
    gradients: tuple[Tensor | None, ...]  # of the loss with respect to them
    has_graph: bool
    start: EncoderState  # before the first pass


class LossGradients(NamedTuple):
    """The value of the loss, and what the second pass needs."""

    value: Tensor
    pending: list[Pending]  # of every chunk

    # By the index of a chunk: parameters that the loss reads, and their gradients, which must take
    # part in the backward pass of that chunk so that DistributedDataParallel averages them.
    deferred: dict[int, list[Root]]


def loss_gradients(
    batch: Batch, encoded: Sequence[Encoded], loss: Loss, scaler: GradScaler | None
) -> LossGradients:
    """Compute the loss and its gradients at all representations.

    Gradients of parameters of the loss are added to their ``.grad``, or deferred.
    """
    columns = batch.concatenated([chunk.representations for chunk in encoded])
    leaves = [
        column._replace(tensors=tuple(_leaf(x) for x in column.tensors)) for column in columns
    ]
    value = evaluate(batch, loss, leaves)
    inputs = [x for column in leaves for x in column.tensors if x.requires_grad]
    deferred = _loss_backward(batch, scaled(value, scaler), inputs)

    pending = []
    for chunk_indices, column in zip(batch.columns, leaves, strict=True):
        chunks = [encoded[i] for i in chunk_indices]
        pending += _pending(chunks, column.tensors)
    return LossGradients(value.detach(), pending, deferred)


def evaluate(batch: Batch, loss: Loss, columns: Sequence[Representations]) -> Tensor:
    """Return the loss of the columns' representations, each in the order of its rows."""
    with batch.graph(enabled=True):
        value = loss(*(batch.in_row_order(i, column) for i, column in enumerate(columns)))
    if value.numel() != 1 or not value.requires_grad:
        raise InputError(
            "cached_backward: the loss must be a scalar computed from the representations; got "
            f"shape {tuple(value.shape)}, requires_grad={value.requires_grad}"
        )
    return value


def _loss_backward(batch: Batch, value: Tensor, inputs: Sequence[Tensor]) -> dict[int, list[Root]]:
    """Set ``.grad`` of the representations ``inputs`` and of the parameters that the loss reads.

    Gradients of parameters that ``DistributedDataParallel`` averages are returned instead, by the
    index of the chunk whose backward pass they must join.
    """
    if not batch.reduction.is_distributed:
        torch.autograd.backward(value)
        return {}
    input_ids = {id(x) for x in inputs}
    parameters = [p for p in leaves_of(value) if id(p) not in input_ids]
    gradients = torch.autograd.grad(value, [*inputs, *parameters], allow_unused=True)
    for x, gradient in zip(inputs, gradients, strict=False):
        x.grad = gradient

    local: list[Root] = []
    deferred: dict[int, list[Root]] = {}
    for p, gradient in zip(parameters, gradients[len(inputs) :], strict=True):
        if gradient is None:
            continue
        chunk_index = batch.reduction.reducing_chunk(p)
        roots = local if chunk_index is None else deferred.setdefault(chunk_index, [])
        roots.append((p, gradient))
    backward(local)
    return deferred


def _pending(chunks: Sequence[Encoded], leaves: Sequence[Tensor]) -> list[Pending]:
    """Split a column's representations and their gradients into its chunks.

    Outputs without a graph become views of the column, so that those of the first pass are freed.
    """
    counts = [len(chunk.representations.tensors[0]) for chunk in chunks]
    values = zip(*(torch.split(leaf.detach(), counts) for leaf in leaves), strict=True)
    gradients = zip(*(_split(leaf.grad, counts) for leaf in leaves), strict=True)
    pending = []
    for chunk, value, gradient in zip(chunks, values, gradients, strict=True):
        outputs = chunk.representations.tensors if chunk.has_graph else value
        pending.append(Pending(outputs, gradient, chunk.has_graph, chunk.start))
    return pending


def _split(x: Tensor | None, counts: list[int]) -> Sequence[Tensor | None]:
    return [None] * len(counts) if x is None else torch.split(x, counts)


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_(x.is_floating_point())


def scaled(value: Tensor, scaler: GradScaler | None) -> Tensor:
    """Return the loss, times the scale of the scaler if there is one."""
    return value if scaler is None else scaler.scale(value)


def backward(roots: Sequence[Root]) -> None:
    """Run one backward pass from all roots, if there are any."""
    if roots:
        torch.autograd.backward([y for y, _ in roots], [g for _, g in roots])
