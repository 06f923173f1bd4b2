"""One all-reduce a step for each module under ``DistributedDataParallel``, with any chunks.

A wrapped module averages its gradients over processes in the backward pass that follows a forward
pass outside of its ``no_sync``. Every parameter must take part in that one backward pass, including
those that only the loss reads.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Reduction", "leaves_of"]


class Reduction:
    """The first and the last chunk through each wrapped module, by their indices.

    ``wrapped`` holds the wrapped modules of every chunk.
    """

    def __init__(self, wrapped: Sequence[Sequence[DistributedDataParallel]]) -> None:
        self.wrapped = wrapped
        self.first_chunk: dict[DistributedDataParallel, int] = {}
        self.last_chunk: dict[DistributedDataParallel, int] = {}
        for chunk_index, modules in enumerate(wrapped):
            for module in modules:
                self.first_chunk.setdefault(module, chunk_index)
                self.last_chunk[module] = chunk_index

    @property
    def is_distributed(self) -> bool:
        """Whether there is a wrapped module."""
        return bool(self.first_chunk)

    @property
    def allows_single_pass(self) -> bool:
        """Whether one backward pass through the graphs of all chunks averages every parameter.

        The search for unused parameters does not see those that only the loss reads.
        """
        return not any(module.find_unused_parameters for module in self.first_chunk)

    @contextmanager
    def reduce_in(
        self, chunk_index: int, reducing_chunks: Mapping[DistributedDataParallel, int]
    ) -> Iterator[None]:
        """Let a forward pass over a chunk prepare the all-reduce of the modules it reduces.

        ``reducing_chunks`` maps a module to the index of the chunk whose backward pass averages its
        gradients.
        """
        with ExitStack() as stack:
            for module in self.wrapped[chunk_index]:
                if reducing_chunks.get(module) != chunk_index:
                    stack.enter_context(module.no_sync())
            yield

    def is_first(self, chunk_index: int) -> bool:
        """Return whether the chunk is the first one through some wrapped module."""
        modules = self.wrapped[chunk_index]
        return any(self.first_chunk[module] == chunk_index for module in modules)

    def reducing_chunk(self, parameter: Tensor) -> int | None:
        """Return the index of the chunk whose second pass averages this parameter's gradient.

        None if no wrapped module has it, or if the module searches for unused parameters:
        that search stores which parameters earlier backward passes used.
        """
        for module, chunk_index in self.first_chunk.items():
            if module.find_unused_parameters:
                continue
            if any(p is parameter for p in module.parameters()):
                return chunk_index
        return None


def leaves_of(result: Tensor) -> list[Tensor]:
    """Return the leaf tensors that a result was computed from and has a gradient for."""
    leaves: dict[Tensor, None] = {}
    stack = [result.grad_fn]
    visited: set[Node | None] = {None}
    while stack:
        node = stack.pop()
        if node in visited:
            continue
        visited.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves[leaf] = None
        if node is not None:
            stack.extend(next_node for next_node, _ in node.next_functions)
    return list(leaves)
