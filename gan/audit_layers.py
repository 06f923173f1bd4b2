"""Operator norms of a critic's layers, and the Lipschitz constant that its modules prove."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan.audit_calls import Recording
from gan.audit_constants import CONSTANTS, Call, lipschitz_constant, refuse_shape
from gan.normalization.claims import is_modified, plain_type
from gan.normalization.module_types import sequence
from gan.normalization.operator_norms import is_measurable, operator_norm
from univae.errors import InputError

__all__ = ["Certificate", "Layer", "certify", "measure_layers"]


@dataclass(frozen=True)
class Layer:
    """The operator norm of a layer in one call, and the norm of its reshaped weight."""

    name: str
    operator: float  # an upper bound; see gan.normalization.operator_norms
    reshaped: float


@dataclass(frozen=True)
class Certificate:
    """A proven Lipschitz constant of a critic in evaluation mode, or the reason for having none."""

    constant: float | None
    refusal: str = ""


def measure_layers(critic: nn.Module, recording: Recording) -> tuple[Layer, ...]:
    """Return the norms of all recorded calls of linear layers and convolutions.

    A layer that is called twice is returned twice.
    """
    names = {module: name for name, module in critic.named_modules()}
    measured: dict[tuple[nn.Module, tuple[int, ...]], Layer] = {}
    layers = []
    for call in recording.calls:
        module = call.module
        if not is_measurable(module):
            continue
        shape = _row_shape(call)
        if (module, shape) not in measured:
            measured[module, shape] = _measure(names[module], module, shape)
        layers.append(measured[module, shape])
    return tuple(layers)


def certify(critic: nn.Module, recording: Recording, layers: Sequence[Layer]) -> Certificate:
    r"""Return the product of the constants of a critic's calls on rows of the recorded shape.

    It is a Lipschitz constant of a critic that is a sequence of modules with constants
    (:data:`gan.audit_constants.CONSTANTS`), by their types and declarations and by the recorded
    calls. A module that is called twice counts twice.

    Args:
        critic: the critic, in evaluation mode.
        recording: its calls in a pass without labels.
        layers: what :func:`measure_layers` returns.
    """
    modules = sequence(critic)
    if modules is None:
        return Certificate(None, "the critic is no chain of layers")
    for module in modules:
        kind = plain_type(module)
        if kind not in CONSTANTS:
            return Certificate(None, f"{kind.__name__} has no known Lipschitz constant")
        if is_modified(module):
            return Certificate(None, f"{kind.__name__} has hooks or another forward")
    if not recording.is_composition or [call.module for call in recording.calls] != modules:
        return Certificate(None, "the critic's forward is not the sequence that it declares")

    try:
        product = math.prod(_constants(recording, layers))
    except InputError as error:
        return Certificate(None, str(error))
    if not math.isfinite(product):
        return Certificate(None, "the norms of its layers are not finite")
    return Certificate(product)


def _constants(recording: Recording, layers: Sequence[Layer]) -> Iterator[float]:
    remaining_layers = iter(layers)
    for call in recording.calls:
        refuse_shape(call)
        if is_measurable(call.module):
            yield next(remaining_layers).operator
        else:
            yield lipschitz_constant(call)


def _row_shape(call: Call) -> tuple[int, ...]:
    """Return the shape of one row; an input of a convolution may have no dimension of rows."""
    sides = CONSTANTS[plain_type(call.module)].sides
    return call.input_shape[1:] if sides is None else call.input_shape[-(sides + 1) :]


def _measure(name: str, layer: nn.Module, shape: tuple[int, ...]) -> Layer:
    assert isinstance(layer.weight, Tensor)
    matrix = layer.weight.detach().flatten(1).float()
    reshaped_norm = torch.linalg.matrix_norm(matrix, 2).item()
    return Layer(name, operator_norm(layer, shape), reshaped_norm)
