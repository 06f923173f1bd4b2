r"""The exact gradient of a loss that couples all rows, with the activations of one chunk in memory.

Let :math:`r = f_\theta(x)` be the representations and :math:`L(r)` any loss of all of them. By the
chain rule

.. math:: \nabla_\theta L = \nabla_\theta \sum_c \langle G_c, f_\theta(x_c) \rangle

with :math:`G = \partial L / \partial r` held constant: a sum over chunks. A first pass computes r
without a graph, the loss gives G, and a second pass over the chunks, with the same random numbers,
adds each chunk's term. The cost is one more forward pass; a chunk whose graph of the first pass
is kept needs no second one.

References:
    Contrastive learning with gradient accumulation (Su, 2021), https://kexue.fm/archives/8471
    Scaling Deep Contrastive Learning Batch Size (GradCache; Gao et al., 2021),
    https://arxiv.org/abs/2101.06983
"""

from collections.abc import Sequence
from typing import SupportsIndex, cast

from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from univae.contrastive.chunking import Chunker, Collate, cut
from univae.contrastive.encoder_modules import encoder_modules, refuse_batch_statistics
from univae.contrastive.encoding import Batch, Chunk, Encode
from univae.contrastive.loss_gradients import Loss, loss_gradients
from univae.contrastive.passes import first_pass, second_pass, single_pass
from univae.errors import InputError

__all__ = ["cached_backward"]


def cached_backward(
    encode: Encode | Sequence[Encode],
    batch: object,
    loss: Loss,
    chunk_size: SupportsIndex | Chunker | None,
    *,
    collate: Collate | None = None,
    keep: int = 1,
    keep_bytes: int = 0,
    scaler: GradScaler | None = None,
    modules: Sequence[nn.Module] = (),
) -> Tensor:
    r"""Add :math:`\nabla L` to the ``.grad`` of all parameters, and return the value of L.

    Each pass runs under the autocast that is active at the call. The representations that the loss
    receives and their gradients are in at least float32. Afterwards generators and buffers, such as
    running statistics, are in the state of encoding the chunks in order, once, and then computing
    the loss. An encoder that needs no gradient is run twice for one chunk at most.

    Under ``DistributedDataParallel`` the gradients are averaged once a step for each wrapped
    module, in the last backward pass through it. Processes may have different numbers of chunks,
    each at least one. The parameters of the loss are averaged if a wrapped module holds them.

    Args:
        encode: a callable; or a list of them, one for each column of the batch, which
            may repeat.
        batch: the rows of the column, or a list or tuple of as many columns as there are callables.
            A column is nested tensors that share their first dimension, or with ``collate`` a
            sequence of items.
        loss: takes the representations of each column, in the order of its rows, and returns a
            scalar.
        chunk_size: rows in a chunk; or a function of the column that groups its rows, as
            :func:`univae.contrastive.by_tokens` gives; or None for columns that are sequences of
            chunks already. With ``collate``, rows of mean length: chunks have equal tokens, by
            :func:`univae.contrastive.by_mean_tokens`, and encoders draw the random numbers of
            short items first. Items whose ``len`` is no cost, as names of files, need a function.
        collate: returns the inputs of a chunk for a list of its items, padded for example.
        keep: how many of the last chunks keep their graphs. The last graph costs no memory,
            because the second pass holds one graph anyway. Keeping all is an ordinary backward
            pass. Under ``DistributedDataParallel`` the first chunk through a wrapped module is
            always computed again, unless all are kept and it does not search for unused parameters.
        keep_bytes: also keep the graphs of the first chunks, as long as their saved tensors take at
            most this many bytes.
        scaler: scales the loss before the backward pass; the returned value is not scaled.
        modules: the modules that ``encode`` calls, where it is a function (one of several: those
            that each of the functions calls). Not needed for an encoder that is a
            module or a method of one. Needed for ``DistributedDataParallel``; for dropout on an
            accelerator that the inputs are not on; and so that ``keep_bytes`` does not count their
            weights.

    Raises:
        InputError: a batch without rows or with an invalid partition; an encoder that normalises
            with the statistics of its batch, which differ between chunks, unless each column is one
            chunk; an encoder that returns neither a tensor nor a tuple of them; a loss
            that is not a scalar or has no gradient; an encoder on a device without its inputs or
            modules; a function that calls a module under ``DistributedDataParallel`` which
            ``modules`` does not list, or does not call one that it lists; a static graph of
            ``DistributedDataParallel``; and, with wrong gradients already added, an encoder whose
            second pass differs from the first by more than rounding, relative to the size of each
            of its outputs.
    """
    encoders: list[Encode] = [encode] if callable(encode) else list(encode)
    columns = [batch] if callable(encode) else cast("Sequence[object]", batch)
    if len(columns) != len(encoders):
        raise InputError(
            f"cached_backward: {len(encoders)} encoders take as many columns; got {len(columns)}"
        )
    chunks = [
        Chunk(column_index, encoders[column_index], inputs.values, inputs.rows)
        for column_index, column in enumerate(columns)
        for inputs in cut(column, chunk_size, collate)
    ]
    work = Batch(chunks, [encoder_modules(encoder, modules) for encoder in encoders])
    single = keep >= len(chunks) and work.reduction.allows_single_pass
    if not work.is_whole:
        refuse_batch_statistics(work.modules)
    if single:
        return single_pass(work, loss, scaler)

    gradients = loss_gradients(work, first_pass(work, keep, keep_bytes), loss, scaler)
    second_pass(work, gradients.pending, gradients.deferred)
    return gradients.value
