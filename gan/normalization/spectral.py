r"""Spectral norm of a critic's layers: of the reshaped weight, as is usual, or of the operator.

The usual :math:`\sigma` of a convolution is that of its weight reshaped to (out, in k k). It is not
the norm of the convolution, which is up to 1.7 times larger, so that a critic with :math:`\sigma =
1` is not 1-Lipschitz. The operator norm :math:`\max_{\|x\| = 1} \|w * x\|` depends on the size of
the image; it is computed by power iteration on the convolution and its adjoint.

References:
    Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018),
    https://arxiv.org/abs/1802.05957

    Regularisation of Neural Networks by Enforcing Lipschitz Continuity (Gouk et al., 2018),
    https://arxiv.org/abs/1804.04368
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_input
from torch.nn.utils import parametrizations, parametrize

from gan.normalization.module_types import plain_type
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = [
    "SPECTRAL_NORMS",
    "SpectralName",
    "SpectralNorm",
    "input_shapes",
    "is_spectral",
    "operator_norm",
    "spectral_normalize",
]

LAYERS = (nn.Linear, nn.Conv2d)
NORMALIZED = (*LAYERS, nn.Embedding)

# Steps of power iteration at the start; afterwards one step per training pass tracks the weights.
INITIAL_STEPS = 30


def spectral_normalize(
    critic: nn.Module, exact_on: Tensor | None = None, labels: Tensor | None = None
) -> nn.Module:
    r"""Divide the weights of linear layers, convolutions and embeddings by their spectral norms.

    The norm tracks the weight by one step of power iteration per training pass. Changes ``critic``
    and returns it.

    Args:
        critic: the critic to change.
        exact_on: rows of the shape of the data; every convolution is then divided by its operator
            norm on images of that shape instead of the norm of its reshaped weight.
        labels: the labels of ``exact_on``, for a conditional critic.

    Raises:
        InputError: some weights are reparametrised already.
    """
    shapes = input_shapes(critic, exact_on, labels) if exact_on is not None else {}
    layers = [module for module in critic.modules() if plain_type(module) in NORMALIZED]
    if any(parametrize.is_parametrized(layer, "weight") for layer in layers):
        raise InputError(
            "spectral_normalize: this critic has reparametrised weights already; pass a new critic"
        )

    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer in shapes:
            exact_norm = _OperatorNorm(layer, shapes[layer])
            parametrize.register_parametrization(layer, "weight", exact_norm)
        else:
            parametrizations.spectral_norm(layer)
    return critic


@dataclass(frozen=True)
class SpectralNorm:
    """A row of :data:`SPECTRAL_NORMS`."""

    summary: str
    normalizes: bool = True
    exact: bool = False  # divides convolutions by their operator norm on images of the data's size

    def apply(
        self, critic: nn.Module, shape: tuple[int, ...], *, conditional: bool = False
    ) -> nn.Module:
        """Normalise a critic of rows of ``shape``; changes ``critic`` and returns it."""
        if not self.normalizes:
            return critic
        sample = torch.zeros(2, *shape) if self.exact else None
        labels = torch.zeros(2, dtype=torch.long) if conditional else None
        return spectral_normalize(critic, sample, labels)


SPECTRAL_NORMS: dict[str, SpectralNorm] = {
    "no": SpectralNorm("", normalizes=False),
    "reshaped": SpectralNorm("by the norm of reshaped weights, as is usual"),
    "exact": SpectralNorm("by the norm of the convolutions themselves", exact=True),
}

if TYPE_CHECKING:
    SpectralName: TypeAlias = str
else:
    SpectralName = Literal[tuple(SPECTRAL_NORMS)]


def is_spectral(critic: nn.Module) -> bool:
    """Return whether any weight of the critic is divided by a norm."""
    return any(parametrize.is_parametrized(module, "weight") for module in critic.modules())


@torch.no_grad()
def operator_norm(
    layer: nn.Module, shape: tuple[int, ...], steps: int = 500, tolerance: float = 1e-6
) -> float:
    r"""Return the norm of a linear layer or convolution without bias, on inputs (..., \*shape).

    Exact for a linear layer. For a convolution by power iteration, from below, until a step changes
    the norm by less than the fraction ``tolerance``, or after ``steps``.

    Raises:
        InputError: the layer is neither linear nor a 2-d convolution.
    """
    if not isinstance(layer, LAYERS):
        raise InputError(
            f"operator_norm: takes linear layers and 2-d convolutions; got {type(layer).__name__}"
        )
    weight = at_least_float32(layer.weight.detach())
    if isinstance(layer, nn.Linear):
        return float(torch.linalg.matrix_norm(weight, 2))

    noise = torch.Generator().manual_seed(0)
    v = _unit(torch.randn(1, *shape, dtype=weight.dtype, generator=noise)).to(weight.device)
    options = _convolution_options(layer)
    norm = 0.0
    for _ in range(steps):
        u = F.conv2d(v, weight, **options)
        previous_norm = norm
        norm = torch.linalg.vector_norm(u).item()
        if norm == 0 or abs(norm - previous_norm) < tolerance * norm:
            break
        v = _unit(_adjoint(v, weight, u, options))
    return norm


@torch.no_grad()
def input_shapes(
    critic: nn.Module, x: Tensor, labels: Tensor | None = None
) -> dict[nn.Module, tuple[int, ...]]:
    """Return one row's input shape of every linear layer and convolution, by a pass of two rows."""
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes[layer] = tuple(inputs[0].shape[1:])

    layers = [module for module in critic.modules() if plain_type(module) in LAYERS]
    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    training = critic.training
    try:
        critic.eval()
        critic(x[:2]) if labels is None else critic(x[:2], labels[:2])
    finally:
        critic.train(training)
        for hook in hooks:
            hook.remove()
    return shapes


class ConvolutionOptions(TypedDict):
    """The keyword arguments of :func:`torch.nn.functional.conv2d` besides the tensors."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class _OperatorNorm(nn.Module):
    """The weight of a convolution over its operator norm on images of one size."""

    v: Tensor

    def __init__(self, conv: nn.Conv2d, shape: tuple[int, ...]) -> None:
        super().__init__()
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise InputError(
                "spectral_normalize: an exact norm needs padding by a number of zeros; got "
                f"padding={conv.padding!r} of mode {conv.padding_mode}"
            )
        self.options = _convolution_options(conv)
        self.register_buffer("v", _unit(torch.randn(1, *shape)).to(conv.weight))
        with torch.no_grad():
            for _ in range(INITIAL_STEPS):
                self._iterate(conv.weight)

    def forward(
        self, weight: Float[Tensor, "out into height width"]
    ) -> Float[Tensor, "out into height width"]:
        """Return ``weight`` over its operator norm; in training after a step of power iteration."""
        if self.training:
            with torch.no_grad():
                self._iterate(weight)
        with torch.no_grad():
            u = _unit(F.conv2d(self.v, weight, **self.options))
        # A copy: the next pass changes the buffer, possibly before the backward pass of this one.
        v = self.v.clone()
        return weight / (u * F.conv2d(v, weight, **self.options)).sum()

    def _iterate(self, weight: Tensor) -> None:
        u = F.conv2d(self.v, weight, **self.options)
        self.v.copy_(_unit(_adjoint(self.v, weight, u, self.options)))


def _convolution_options(conv: nn.Conv2d) -> ConvolutionOptions:
    return {
        "stride": conv.stride,
        "padding": conv.padding,  # type: ignore[typeddict-item]  # torch: also a string
        "dilation": conv.dilation,
        "groups": conv.groups,
    }


def _adjoint(v: Tensor, weight: Tensor, u: Tensor, options: ConvolutionOptions) -> Tensor:
    """Return the adjoint of the convolution of inputs of the shape of ``v``, applied to ``u``."""
    adjoint: Callable[..., Tensor] = conv2d_input  # without annotations in torch
    return adjoint(v.shape, weight, u, **options)


def _unit(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)
    return x / norm.clamp_min(torch.finfo(x.dtype).tiny)
