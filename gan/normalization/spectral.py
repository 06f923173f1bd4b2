r"""Spectral norm of a critic's layers: of the reshaped weight, as is usual, or of the operator itself.

The usual :math:`\sigma` of a convolution is that of its weight reshaped to (out, in k k): not the norm of the
convolution, which is up to 1.7 times larger where :math:`\sigma = 1`, so such a critic is not 1-Lipschitz. The true
norm :math:`\max_{\|x\| = 1} \|w * x\|` depends on the size of the image and comes from a power iteration on the
convolution and its adjoint.

References:
    Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018),
    https://arxiv.org/abs/1802.05957 Regularisation of Neural Networks by Enforcing Lipschitz
    Continuity (Gouk et al., 2018), https://arxiv.org/abs/1804.04368
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_input
from torch.nn.utils import parametrizations, parametrize

from gan.normalization.module_types import plain_type
from univae.dtypes import at_least_float32
from univae.errors import InputError

__all__ = ["input_shapes", "is_spectral", "operator_norm", "spectral_normalize"]

LAYERS = (nn.Linear, nn.Conv2d)
NORMALIZED = (*LAYERS, nn.Embedding)


def spectral_normalize(
    critic: nn.Module, exact_on: Tensor | None = None, labels: Tensor | None = None
) -> nn.Module:
    r"""Divide the weight of every linear layer, convolution and embedding of ``critic`` by its largest singular value.

    By one step of the power iteration a training pass. ``exact_on``: some data, for whose size
    every convolution is divided by its own operator norm and not by that of its reshaped weight.
    Changes ``critic`` and returns it.
    """
    shapes = input_shapes(critic, exact_on, labels) if exact_on is not None else {}
    layers = [part for part in critic.modules() if plain_type(part) in NORMALIZED]
    if any(parametrize.is_parametrized(part, "weight") for part in layers):
        raise InputError(
            "spectral_normalize: this critic has reparametrised weights already; build it anew"
        )
    for part in layers:
        if isinstance(part, nn.Conv2d) and part in shapes:
            parametrize.register_parametrization(part, "weight", _OperatorNorm(part, shapes[part]))
        else:
            parametrizations.spectral_norm(part)
    return critic


def is_spectral(critic: nn.Module) -> bool:
    """Whether any weight of the critic is divided by a norm."""
    return any(parametrize.is_parametrized(part, "weight") for part in critic.modules())


@torch.no_grad()
def operator_norm(
    layer: nn.Module, shape: tuple[int, ...], steps: int = 500, tolerance: float = 1e-6
) -> float:
    """The norm of a linear layer or convolution, without its bias, on inputs (..., \\*shape).

    Exact for a linear layer; by power iteration for a convolution, until a step changes the value
    by less than the share ``tolerance``: from below.
    """
    if not isinstance(layer, LAYERS):
        raise InputError(
            f"operator_norm: knows linear layers and 2-d convolutions; got {type(layer).__name__}"
        )
    weight = at_least_float32(layer.weight.detach())
    if isinstance(layer, nn.Linear):
        return torch.linalg.matrix_norm(weight, 2).item()
    v = _unit(
        torch.randn(1, *shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(0))
    )
    v = v.to(weight.device)
    norm = 0.0
    how = _how(layer)
    for _ in range(steps):
        u = F.conv2d(v, weight, **how)
        before = norm
        norm = torch.linalg.vector_norm(u).item()
        if norm == 0 or abs(norm - before) < tolerance * norm:
            break
        v = _unit(conv2d_input(v.shape, weight, u, **how))
    return norm


@torch.no_grad()
def input_shapes(
    critic: nn.Module, x: Tensor, labels: Tensor | None = None
) -> dict[nn.Module, tuple[int, ...]]:
    """The shape of one sample's input to every linear layer and convolution, found by a pass over two samples."""
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes[part] = tuple(inputs[0].shape[1:])

    hooks = [
        part.register_forward_pre_hook(note)
        for part in critic.modules()
        if plain_type(part) in LAYERS
    ]
    training = critic.training
    try:
        critic.eval()
        critic(x[:2]) if labels is None else critic(x[:2], labels[:2])
    finally:
        critic.train(training)
        for hook in hooks:
            hook.remove()
    return shapes


class _OperatorNorm(nn.Module):
    """A convolution's weight over the norm of the convolution on images of one size."""

    v: Tensor

    def __init__(self, conv: nn.Conv2d, shape: tuple[int, ...]) -> None:
        super().__init__()
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise InputError(
                "spectral_normalize: an exact norm needs padding by a number of zeros; got another kind"
            )
        self.how = _how(conv)
        self.register_buffer("v", _unit(torch.randn(1, *shape)).to(conv.weight))
        with torch.no_grad():
            for _ in range(30):
                self._turn(conv.weight)

    def forward(
        self, weight: Float[Tensor, "out into height width"]
    ) -> Float[Tensor, "out into height width"]:
        if self.training:
            with torch.no_grad():
                self._turn(weight)
        with torch.no_grad():
            u = _unit(F.conv2d(self.v, weight, **self.how))
        # The buffer moves at the next pass, which may come before this one's backward pass.
        return weight / (u * F.conv2d(self.v.clone(), weight, **self.how)).sum()

    def _turn(self, weight: Tensor) -> None:
        u = F.conv2d(self.v, weight, **self.how)
        self.v.copy_(_unit(conv2d_input(self.v.shape, weight, u, **self.how)))


def _how(conv: nn.Conv2d) -> dict[str, Any]:
    return {
        "stride": conv.stride,
        "padding": conv.padding,
        "dilation": conv.dilation,
        "groups": conv.groups,
    }


def _unit(x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x).clamp_min(torch.finfo(x.dtype).tiny)
