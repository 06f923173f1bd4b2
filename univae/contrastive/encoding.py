"""The pass of a chunk through its encoder, with checks of the representations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from univae.contrastive.data_parallel import Reduction
from univae.contrastive.drift import precision
from univae.contrastive.encoder_modules import EncoderModules, checked_calls
from univae.contrastive.encoder_state import Buffers, EncoderState
from univae.contrastive.random_state import devices_of
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["Batch", "Chunk", "Encode", "Encoded", "Representations"]

# Maps the inputs of a chunk to its representations: a tensor with one row each, or a tuple of such
# tensors.
Encode: TypeAlias = Callable[..., object]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of a column, and the encoder of the column."""

    column: int
    encode: Encode
    inputs: object
    rows: Sequence[int] | None  # indices; None where the column is a sequence of chunks


class Representations(NamedTuple):
    """What an encoder returns for a chunk, in at least float32."""

    tensors: tuple[Tensor, ...]
    is_tensor: bool  # whether the encoder returns a tensor, not a tuple of them
    epsilon: float  # machine epsilon of the lowest precision in the encoder

    def detach(self) -> "Representations":
        """Return the same values without their graph."""
        return self._replace(tensors=tuple(x.detach() for x in self.tensors))


class Encoded(NamedTuple):
    """The result of the first pass over a chunk."""

    representations: Representations
    has_graph: bool
    start: EncoderState  # before the pass


class Batch:
    """The chunks of all columns, in order, and their passes through the encoders.

    Args:
        chunks: every chunk; those of a column are adjacent.
        encoders: the modules of each column's encoder.
    """

    def __init__(self, chunks: Sequence[Chunk], encoders: Sequence[EncoderModules]) -> None:
        self.chunks = chunks
        self.encoders = encoders
        self.modules: list[nn.Module] = list(
            dict.fromkeys(module for encoder in encoders for module in encoder.modules)
        )
        self.columns = [
            [i for i, chunk in enumerate(chunks) if chunk.column == column]
            for column in range(len(encoders))
        ]
        self.reduction = Reduction([encoders[chunk.column].wrapped for chunk in chunks])
        self.devices = devices_of([chunk.inputs for chunk in chunks], self.modules)
        self.buffers = Buffers()  # of the modules of chunks that are encoded twice
        self._epsilons = [
            precision(p for module in encoder.modules for p in module.parameters())
            for encoder in encoders
        ]
        self._graph_enabled = False

    @property
    def is_whole(self) -> bool:
        """Whether every column is one chunk."""
        return len(self.chunks) == len(self.columns)

    def encode_checked(self, chunk_index: int, *, graph: bool, repeats: bool) -> Representations:
        """Return :meth:`encode` of a chunk; check the modules that a column's first chunk calls.

        With ``repeats`` this is the first of two passes, and ``buffers`` learns which buffers of
        these modules it changes.
        """
        column = self.chunks[chunk_index].column
        if chunk_index != self.columns[column][0]:
            return self.encode(chunk_index, graph=graph)
        buffers = self.buffers if repeats else None
        with checked_calls(self.encoders[column], buffers, mixes_rows=self.is_whole):
            return self.encode(chunk_index, graph=graph)

    def encode(self, chunk_index: int, *, graph: bool) -> Representations:
        """Return the representations of a chunk, with or without their graph.

        Raises:
            InputError: they are neither a tensor nor a tuple of tensors, they do not have one row
                for each of the chunk, or they are on a device whose generator was not stored.
        """
        chunk = self.chunks[chunk_index]
        with self.graph(enabled=graph):
            result = chunk.encode(chunk.inputs)
            outputs = _outputs(result, chunk.rows)
        tensors = tuple(at_least_float32(x) if x.is_floating_point() else x for x in outputs)
        for tensor in tensors:
            if not tensor.is_cpu and tensor.device not in self.devices:
                raise InputError(
                    f"cached_backward: encode computes on {tensor.device}, where neither "
                    "its inputs nor its modules are; list the modules that it calls in modules="
                )
        epsilon = max(self._epsilons[chunk.column], precision(outputs))
        return Representations(tensors, isinstance(result, Tensor), epsilon)

    def concatenated(self, chunks: Sequence[Representations]) -> list[Representations]:
        """Return the representations of every column, chunk after chunk."""
        columns = []
        for chunk_indices in self.columns:
            column_chunks = [chunks[i] for i in chunk_indices]
            tensors = zip(*(chunk.tensors for chunk in column_chunks), strict=True)
            joined = tuple(torch.cat(pieces) for pieces in tensors)
            columns.append(column_chunks[0]._replace(tensors=joined))
        return columns

    def in_row_order(
        self, column: int, representations: Representations
    ) -> Tensor | tuple[Tensor, ...]:
        """Return a column's representations in the order of its rows, in the encoder's type."""
        rows = [row for i in self.columns[column] for row in self.chunks[i].rows or ()]
        tensors = representations.tensors
        if rows != sorted(rows):
            order = torch.tensor(rows).argsort().to(tensors[0].device)
            tensors = tuple(x[order] for x in tensors)
        return tensors[0] if representations.is_tensor else tensors

    def graph(self, *, enabled: bool) -> torch.set_grad_enabled:
        """Return a context with or without graphs."""
        if enabled and not self._graph_enabled:
            # In some versions of PyTorch, autocast caches weights that were cast without a graph;
            # these would get no gradient.
            torch.clear_autocast_cache()
        self._graph_enabled = enabled
        return torch.set_grad_enabled(enabled)


def _outputs(result: object, rows: Sequence[int] | None) -> Sequence[Tensor]:
    elements = (result,) if isinstance(result, Tensor) else result
    if not isinstance(elements, tuple | list) or not elements or not all(map(_has_rows, elements)):
        raise InputError(
            f"cached_backward: encode returned {_description(result)}; return a tensor or a tuple"
        )
    counts = [len(x) for x in elements]
    if rows:
        counts.append(len(rows))
    if len(set(counts)) != 1:
        raise InputError(
            f"cached_backward: encode must return one row for each of a chunk; got {counts} rows"
        )
    return elements


def _has_rows(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _description(value: object) -> str:
    if isinstance(value, tuple | list):
        elements = sorted({_description(element) for element in value})
        return f"a {type(value).__name__} of {', '.join(elements) or 'nothing'}"
    if isinstance(value, Tensor):
        return "a tensor" if value.ndim else "a tensor without rows"
    return "nothing" if value is None else f"a {type(value).__name__}"
