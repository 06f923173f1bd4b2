r"""Spectral norm of a critic's layers: of the reshaped weight, as is usual, or of the operator.

The usual :math:`\sigma` of a convolution is that of its weight reshaped to (out, in k k). It is not
the norm of the convolution, which is up to 1.7 times larger, so that a critic with :math:`\sigma =
1` is not 1-Lipschitz. The operator norm :math:`\max_{\|x\| = 1} \|w * x\|` depends on the size of
the image; it is computed from the convolution and its adjoint
(:mod:`gan.normalization.exact_spectral`).

References:
    Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018),
    https://arxiv.org/abs/1802.05957

    Regularisation of Neural Networks by Enforcing Lipschitz Continuity (Gouk et al., 2018),
    https://arxiv.org/abs/1804.04368
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from gan.normalization.claims import plain_type
from gan.normalization.exact_spectral import ConvolutionNorm, LinearNorm
from univae.errors import InputError

__all__ = [
    "SPECTRAL_NORMS",
    "SpectralName",
    "SpectralNorm",
    "input_shapes",
    "is_spectral",
    "spectral_normalize",
]

NORMALIZED = (nn.Linear, nn.Conv2d, nn.Embedding)


def spectral_normalize(
    critic: nn.Module, exact_on: Tensor | None = None, labels: Tensor | None = None
) -> nn.Module:
    r"""Divide the weights of linear layers, convolutions and embeddings by their spectral norms.

    The usual norm follows the weight by one step of power iteration per training pass, and lags: it
    is below the true one while the weights change. With ``exact_on`` linear layers and convolutions
    have norm 1 within 1e-3 in every pass, also between an update and the next training pass; only
    embeddings follow by one step. Changes ``critic`` and returns it.

    Args:
        critic: the critic to change.
        exact_on: rows of the shape of the data; every convolution is then divided by its operator
            norm on images of that shape instead of the norm of its reshaped weight.
        labels: the labels of ``exact_on``, for a conditional critic.

    Raises:
        InputError: some weights are reparametrised already, or a convolution has no exact norm: it
            is called on images of two sizes, or padded by other numbers than zeros.
    """
    shapes = input_shapes(critic, exact_on, labels) if exact_on is not None else {}
    layers = [module for module in critic.modules() if plain_type(module) in NORMALIZED]
    if any(parametrize.is_parametrized(layer, "weight") for layer in layers):
        raise InputError(
            "spectral_normalize: this critic has reparametrised weights already; pass a new critic"
        )

    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer in shapes:
            exact_norm = ConvolutionNorm(layer, shapes[layer])
            parametrize.register_parametrization(layer, "weight", exact_norm)
        elif isinstance(layer, nn.Linear) and exact_on is not None:
            parametrize.register_parametrization(layer, "weight", LinearNorm(layer))
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
def input_shapes(
    critic: nn.Module, x: Tensor, labels: Tensor | None = None
) -> dict[nn.Module, tuple[int, ...]]:
    """Return one row's input shape of every 2-d convolution, by a pass of two rows.

    Raises:
        InputError: a convolution is called on images of two sizes, on which its norms differ.
    """
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shape = tuple(inputs[0].shape[1:])
        if shapes.setdefault(layer, shape) != shape:
            raise InputError(
                "spectral_normalize: a convolution has an exact norm on images of one size; got "
                f"{shapes[layer]} and {shape} of one layer; use the reshaped norm, exact_on=None"
            )

    layers = [module for module in critic.modules() if plain_type(module) is nn.Conv2d]
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
