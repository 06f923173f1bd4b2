r"""Linear regions of a piecewise linear critic: recording and replaying activation slopes.

In the region of x the critic is the affine map :math:`F(x') = f + \langle \nabla f, x' - x
\rangle`. :class:`RecordedSlopes` records the slope of every activation at x and applies it to
later inputs: the same affine map for any :math:`x'`, differentiable in the weights.

This requires that every kink is a module whose slope can be recorded. :func:`has_regions` decides
it by module types and declarations, never by values, so that the result is fixed for a network.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan.normalization.claims import declares, is_modified, plain_type, submodules_of_input
from gan.normalization.module_types import CONTAINERS, WEIGHTED, is_piecewise_linear

__all__ = ["RecordedSlopes", "activations", "has_regions"]

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
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


def activations(critic: nn.Module) -> list[nn.Module]:
    """Return the activations of a critic whose signs identify the linear region."""
    return [module for module in critic.modules() if type(module) in ACTIVATIONS]


def has_regions(critic: object) -> bool:
    """Return whether recorded signs of (leaky) ReLU modules determine the critic's affine map.

    All modules must be affine layers or (leaky) ReLUs of torch with torch's own forward, or declare
    ``affine_forward = True`` (:func:`gan.normalization.claims.declares`); none may have a hook, or
    weights that change between two passes.
    """
    if not isinstance(critic, nn.Module) or not is_piecewise_linear(critic):
        return False
    return all(_has_recorded_kinks(module) for module in submodules_of_input(critic))


class RecordedSlopes:
    """The slopes of a critic's activations in one pass, for use in later passes."""

    def __init__(self, critic: nn.Module) -> None:
        self._activations = activations(critic)
        # In the order of the calls. The sign of an output is that of the input.
        self._outputs: list[Tensor] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the slopes of the single pass inside the block."""
        self._outputs.clear()
        hooks = [module.register_forward_hook(self._record) for module in self._activations]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Apply the recorded slopes instead of the activations in the pass inside the block."""
        outputs = iter(self._outputs)
        for module in self._activations:
            leak = getattr(module, "negative_slope", 0.0)
            module.forward = partial(_multiply_by_slope, outputs, leak)
        try:
            yield
        finally:
            for module in self._activations:
                del module.forward

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._outputs.append(output.detach())


def _has_recorded_kinks(module: nn.Module) -> bool:
    if is_modified(module):
        return False
    if parametrize.is_parametrized(module) and module.training:
        return False  # spectral norm changes the weight in every training pass
    if plain_type(module) in ACTIVATIONS:
        return not getattr(module, "inplace", False) and getattr(module, "negative_slope", 0.0) >= 0
    return plain_type(module) in AFFINE or declares(module, "affine_forward")


def _multiply_by_slope(outputs: Iterator[Tensor], leak: float, x: Tensor) -> Tensor:
    # The backward function of a leaky ReLU computes x where the output was positive and leak x
    # elsewhere, and reads each tensor once; torch.where would first write a mask.
    output = next(outputs)
    product: Tensor = torch.ops.aten.leaky_relu_backward(x, output, leak, self_is_result=True)
    return product
