"""Operator norms of a critic's layers, and the Lipschitz constant that they prove."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan.normalization.module_types import chain
from gan.normalization.spectral import LAYERS, input_shapes, operator_norm

__all__ = ["Layer", "lipschitz_constant", "measure_layers"]


@dataclass(frozen=True)
class Layer:
    """The operator norm of a layer, and the norm of its reshaped weight."""

    name: str
    operator: float
    reshaped: float


def measure_layers(critic: nn.Module, x: Tensor, labels: Tensor | None) -> tuple[Layer, ...]:
    """Return the norms of all linear layers and convolutions on inputs of the size of ``x``."""
    shapes = input_shapes(critic, x, labels)
    names = {module: name for name, module in critic.named_modules()}
    layers = []
    for module, shape in shapes.items():
        assert isinstance(module, LAYERS)
        matrix = module.weight.detach().flatten(1).float()
        reshaped_norm = torch.linalg.matrix_norm(matrix, 2).item()
        layers.append(Layer(names[module], operator_norm(module, shape), reshaped_norm))
    return tuple(layers)


def lipschitz_constant(critic: object, layers: Sequence[Layer]) -> float | None:
    """Return the product of the layers' norms and of the slopes above 1 of the activations.

    ``None`` for a critic that is no chain of layers: there the product is no bound.
    """
    if not isinstance(critic, nn.Module) or chain(critic) is None:
        return None
    layer_norms = [layer.operator for layer in layers]
    slopes = [max(1.0, abs(leak)) for leak in _leaks(critic)]
    return math.prod(layer_norms) * math.prod(slopes)


def _leaks(critic: nn.Module) -> list[float]:
    leaks: list[float] = []
    for module in critic.modules():
        if isinstance(module, nn.PReLU):
            leaks.append(module.weight.abs().max().item())
        elif isinstance(module, nn.LeakyReLU):
            leaks.append(module.negative_slope)
    return leaks
