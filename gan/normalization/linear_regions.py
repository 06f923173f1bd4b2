r"""The linear cells of a piecewise linear critic: told from its activations, and held while another input passes.

In the cell of x the critic is the affine map :math:`F(x') = f + \langle \nabla f, x' - x \rangle`.
:class:`Held` notes on which side of its kink every unit is at x, and lets later inputs pass with
those slopes: the same affine map, for any :math:`x'`, as a function of the weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan.normalization.module_types import (
    CONTAINERS,
    WEIGHTED,
    is_piecewise_linear,
    parts,
    plain_type,
)

__all__ = ["Held", "has_cells", "kinked"]

KINKED = (nn.ReLU, nn.LeakyReLU)
AFFINE = (
    *WEIGHTED,
    *CONTAINERS,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.ZeroPad2d,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.Upsample,
    nn.Embedding,
)


def kinked(critic: nn.Module) -> list[nn.Module]:
    """The activations of a critic whose signs tell the cell."""
    return [part for part in critic.modules() if type(part) in KINKED]


def has_cells(critic: object) -> bool:
    """Whether the signs before (leaky) ReLU modules tell a critic's cells, and no weight changes between passes."""
    if not isinstance(critic, nn.Module) or not is_piecewise_linear(critic):
        return False
    for part in parts(critic):
        if (
            parametrize.is_parametrized(part) and part.training
        ):  # spectral norm moves with every pass
            return False
        known = plain_type(part) in (*KINKED, *AFFINE) or any(True for _ in part.children())
        inplace = getattr(part, "inplace", False)
        leak = getattr(part, "negative_slope", 0.0)
        if not known or inplace or leak < 0:
            return False
    return True


class Held:
    """The slopes that a critic's units had in one pass, for those that follow."""

    def __init__(self, critic: nn.Module) -> None:
        self._parts = kinked(critic)
        # in the order of the calls; their signs are those of the inputs
        self._outputs: list[Tensor] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """The pass inside the block is the one whose slopes are held."""
        self._outputs.clear()
        hooks = [
            part.register_forward_hook(
                lambda part, inputs, output: self._outputs.append(output.detach())
            )
            for part in self._parts
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """In the pass inside the block every unit multiplies by the slope that is held."""
        outputs = iter(self._outputs)
        for part in self._parts:
            part.forward = partial(_multiply, outputs, getattr(part, "negative_slope", 0.0))
        try:
            yield
        finally:
            for part in self._parts:
                del part.forward


def _multiply(outputs: Iterator[Tensor], leak: float, x: Tensor) -> Tensor:
    # The backward function of a leaky ReLU: x where its output was positive, else leak x, in one
    # pass over memory.
    return torch.ops.aten.leaky_relu_backward(x, next(outputs), leak, True)
