r"""The exact gradient of a loss that couples all rows of a batch, with the activations of one chunk in memory.

Let :math:`r = f_\theta(x)` be the representations and :math:`L(r)` any loss of all of them. By the
chain rule

.. math:: \nabla_\theta L = \nabla_\theta \sum_c \langle G_c, f_\theta(x_c) \rangle, \qquad G = \partial L / \partial r

with G held constant: a sum over chunks. A first pass finds r without a graph, the loss gives G, and
a second pass over the chunks, drawing the same random numbers, gives each its share. That costs one
forward pass more; a chunk whose graph is kept from the first pass needs no second.

References:
    Contrastive learning with gradient accumulation (Su, 2021), https://kexue.fm/archives/8471
    Scaling Deep Contrastive Learning Batch Size (GradCache; Gao et al., 2021),
    https://arxiv.org/abs/2101.06983
"""

from collections.abc import Sequence
from typing import Any, SupportsIndex

from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from univae.batch_statistics import batch_normalised
from univae.contrastive.chunking import Chunker, Collate, cut
from univae.contrastive.data_parallel import Averaging, wrapped_in
from univae.contrastive.passes import Chunk, Encode, Loss, TwoPasses
from univae.contrastive.random_state import modules_of
from univae.errors import InputError

__all__ = ["cached_backward"]


def cached_backward(
    encode: Encode | Sequence[Encode],
    batch: Any,
    loss: Loss,
    chunk_size: SupportsIndex | Chunker | None,
    *,
    collate: Collate | None = None,
    keep: int = 1,
    keep_bytes: int = 0,
    scaler: GradScaler | None = None,
) -> Tensor:
    r"""Add :math:`\nabla L` to the ``.grad`` of all parameters, as ``backward`` does, and returns the value of L.

    Each pass runs under the autocast that is on when this is called. Representations reach the
    loss, and their gradients the encoder, in at least float32. Afterwards the generators are where
    encoding the chunks in order, once, and then computing the loss leaves them. An encoder that
    needs no gradient sees no chunk twice but the first.

    Under ``DistributedDataParallel`` the gradients are averaged once a step for each wrapped
    module, in the last backward pass through it. Processes may have different numbers of chunks,
    each at least one. The parameters of the loss are averaged if a wrapped module holds them.

    Args:
        encode: a callable; or a list of them, one for each column of the batch, of which the same
            may stand twice.
        batch: the rows of the column, or a list or tuple of as many columns as there are callables.
            A column is nested
            tensors that share their first dimension, or with ``collate`` a sequence of items.
        loss: takes the representations of each column, in the order of its rows, and returns a
            scalar.
        chunk_size: rows in a chunk; or a function of the column that groups its rows, as
            :func:`univae.contrastive.by_tokens` gives; or None for columns that are sequences of
            chunks already.
        collate: makes the inputs of a chunk from a list of its items: pads them, for instance.
        keep: how many of the last chunks keep their graphs. The last one's is free, for the second
            pass holds one
            anyway. All of them is an ordinary backward pass. Under ``DistributedDataParallel`` the
            first chunk through a wrapped module is always computed again, unless all are kept and
            it does not look for unused parameters.
        keep_bytes: also keeps the graphs of the first chunks, as long as what they save takes no
            more than this.
        scaler: scales the loss before the backward pass; not the value returned.

    Raises:
        InputError: for a batch that cannot be cut so; an encoder that normalises with the
            statistics of its batch,
            which are others in every chunk, unless each column is one chunk that is kept; an
            encoder that returns neither a tensor nor a tuple of them; a loss that is no scalar or
            has no gradient; an encoder on a device that neither its inputs nor its modules show; a
            static graph of ``DistributedDataParallel``; and, with wrong gradients already added, an
            encoder whose second pass differs from the first.
    """
    encoders = [encode] if callable(encode) else list(encode)
    columns = [batch] if callable(encode) else batch
    if len(columns) != len(encoders):
        raise InputError(
            f"cached_backward: {len(encoders)} encoders take as many columns; got {len(columns)}"
        )
    wrapped = [wrapped_in(encoder) for encoder in encoders]
    chunks = [
        Chunk(place, encoders[place], inputs, rows)
        for place, column in enumerate(columns)
        for inputs, rows in cut(column, chunk_size, collate)
    ]
    modules = modules_of(*encoders)
    passes = TwoPasses(chunks, modules, Averaging([wrapped[chunk.column] for chunk in chunks]))
    whole = keep >= len(chunks) and passes.averaging.in_one
    if not (whole and len(chunks) == len(columns)):
        _refuse_batch_statistics(modules)
    if whole:
        return passes.ordinary(loss, scaler)
    passes.encode(keep, keep_bytes)
    value = passes.differentiate(loss, scaler)
    passes.encode_again()
    return value


def _refuse_batch_statistics(modules: Sequence[nn.Module]) -> None:
    mixing = batch_normalised(modules)
    if mixing is not None:
        raise InputError(
            f"cached_backward: encode must give each row from that row alone; got {mixing}, which mixes the rows of a "
            "chunk, so that the gradient is not that of the whole batch; use LayerNorm or GroupNorm, or call .eval()"
        )
