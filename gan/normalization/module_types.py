r"""Properties of a critic by its module types: piecewise linearity, chains, rescaling.

Module classes outside torch declare by class attributes which operations their ``forward`` has
besides the calls of submodules. Without a declaration the slower second-order path is used.

``piecewise_linear = True``: piecewise linear operations only.
``affine_forward = True``: affine operations only; every kink is in a submodule.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from univae.batch_statistics import batch_normalised
from univae.errors import InputError

__all__ = [
    "chain",
    "declares",
    "is_piecewise_linear",
    "plain_type",
    "refuse_batch_statistics",
    "rescale",
    "submodules_of_input",
]

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

# Positively homogeneous of degree one: a(c x) = c a(x) for c > 0.
HOMOGENEOUS = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.Flatten,
    nn.Unflatten,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Upsample,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ZeroPad2d,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
INHOMOGENEOUS = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Embedding,
)
PIECEWISE_LINEAR = frozenset((*WEIGHTED, *HOMOGENEOUS, *CONTAINERS, *INHOMOGENEOUS))

# Kaiming's variance of weights before a ReLU is this over the fan-in.
KAIMING_VARIANCE = 2


def is_piecewise_linear(critic: object) -> bool:
    r"""Return whether :math:`\nabla_x f` is constant around almost every x, by module types alone.

    Then :math:`\nabla_x \|\nabla_x f\| = 0` there. Linear maps, (leaky) ReLU, pooling, BatchNorm in
    evaluation mode and modules that declare ``piecewise_linear = True`` qualify; a plain function
    does not.
    """
    if not isinstance(critic, nn.Module):
        return False
    return all(_module_is_piecewise_linear(module) for module in submodules_of_input(critic))


def refuse_batch_statistics(critic: object, who: str) -> None:
    r"""Raise :class:`InputError` for a critic that normalises with the statistics of its batch.

    :math:`\nabla_{x_i} \sum_j f_j` is the gradient of :math:`f_i` only if no other :math:`f_j`
    depends on :math:`x_i`.
    """
    layer = batch_normalised([critic])
    if layer is not None:
        raise InputError(
            f"{who}: a critic's score must depend on one sample alone; got {layer}, which mixes "
            "the batch, so that gradients of single samples do not exist; remove it, or use "
            "LayerNorm or GroupNorm"
        )


def chain(critic: nn.Module) -> list[nn.Module] | None:
    """Return the layers with weights of a critic that is one chain of layers.

    A chain alternates layers with weights and homogeneous modules. Nested ``Sequential`` modules
    belong to it. A module that declares ``sequential = True`` is the chain ``layers``: its forward
    without labels is that chain. ``None`` for any other critic.
    """
    if getattr(critic, "sequential", False):
        critic = critic.get_submodule("layers")
    if not isinstance(critic, nn.Sequential):
        return None

    layers: list[nn.Module] = []
    for module in critic:
        if plain_type(module) in WEIGHTED:
            layers.append(module)
        elif isinstance(module, nn.Sequential):
            inner_layers = chain(module)
            if inner_layers is None:
                return None
            layers += inner_layers
        elif plain_type(module) not in HOMOGENEOUS:
            return None
    return layers


@torch.no_grad()
def rescale(critic: nn.Module) -> None:
    r"""Rescale the weights to the size of initial weights, without changing normalised scores.

    .. math:: w_l \gets c_l w_l, \quad b_l \gets b_l \prod_{j \le l} c_j
        \qquad \Rightarrow \qquad f \gets f \prod_l c_l

    :math:`c_l > 0` sets the root mean square of :math:`w_l` to :math:`\sqrt{2 / \text{fan in}}`.
    A normalised score does not depend on the scale of f, so that no gradient controls the size of
    the weights, and they drift. Of a critic that is no :func:`chain` only the ``head`` is rescaled.

    Raises:
        InputError: for a critic that is no chain and has no linear ``head``, or whose weights are
            reparametrised.
    """
    layers = _rescalable_layers(critic)
    weights = [_tensor(layer.weight) for layer in layers]
    target_norms = torch.tensor(
        [(KAIMING_VARIANCE * w.numel() / w[0].numel()) ** 0.5 for w in weights],
        dtype=torch.float64,
    )
    weight_norms = torch.stack(torch._foreach_norm(weights)).to(target_norms)
    factors = torch.where(weight_norms > 0, target_norms / weight_norms, 1.0)

    torch._foreach_mul_(weights, factors.tolist())
    for layer, factor in zip(layers, factors.cumprod(0).tolist(), strict=True):
        if layer.bias is not None:
            _tensor(layer.bias).mul_(factor)


def plain_type(module: nn.Module) -> type:
    """Return the class of a module, without the subclass that a reparametrisation adds."""
    return type(module).__bases__[0] if parametrize.is_parametrized(module) else type(module)


def declares(module: nn.Module, attribute: str) -> bool:
    """Return whether the class that defines the module's ``forward`` declares ``attribute = True``.

    A subclass that overrides ``forward`` does not inherit the declaration, and a ``forward`` set on
    the instance has none.
    """
    if "forward" in vars(module):
        return False
    for base in type(module).__mro__:
        if attribute in vars(base):
            return vars(base)[attribute] is True
        if "forward" in vars(base):
            return False
    return False


def submodules_of_input(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the module and all submodules, except those that reparametrise weights."""
    yield module
    for name, child in module.named_children():
        if name != "parametrizations":
            yield from submodules_of_input(child)


def _module_is_piecewise_linear(module: nn.Module) -> bool:
    if isinstance(module, _BatchNorm):
        return not module.training and module.running_mean is not None
    return plain_type(module) in PIECEWISE_LINEAR or declares(module, "piecewise_linear")


def _rescalable_layers(critic: nn.Module) -> list[nn.Module]:
    layers = chain(critic)
    if layers is None:
        head = getattr(critic, "head", None)
        if not isinstance(head, nn.Linear):
            raise InputError(
                "rescale: a critic must be a Sequential of linear layers and ReLUs, or have a "
                f"linear `head`; got {type(critic).__name__}; set rescale=False"
            )
        layers = [head]
    if any(parametrize.is_parametrized(layer) for layer in layers):
        raise InputError(
            "rescale: the critic's weights are reparametrised (spectral norm), and cannot be "
            "changed; set rescale=False"
        )
    return layers


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value
