r"""What the types of a critic's modules tell: whether it is piecewise linear, mixes its samples, can be rescaled.

A module that torch does not know is judged by its own word, a class attribute ``piecewise_linear =
True`` ("my forward adds nothing smooth to what my parts do"); without it the answer is no, and the
slow exact path is taken.
"""

from collections.abc import Iterator
from itertools import chain as joined

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from univae.batch_statistics import batch_normalised
from univae.errors import InputError

__all__ = [
    "chain",
    "is_piecewise_linear",
    "parts",
    "plain_type",
    "refuse_batch_statistics",
    "rescale",
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
OTHERS = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Embedding,
)
PIECEWISE_LINEAR = frozenset((*WEIGHTED, *HOMOGENEOUS, *CONTAINERS, *OTHERS))


def is_piecewise_linear(critic: object) -> bool:
    r"""Whether :math:`\nabla_x f` is constant around almost every x, so that :math:`\nabla_x \|\nabla_x f\| = 0` there.

    Known from module types alone: linear maps, (leaky) ReLU, pooling, BatchNorm that evaluates, and
    modules that say ``piecewise_linear = True``. A plain function is not known to be.
    """
    return isinstance(critic, nn.Module) and all(map(_piecewise_linear, parts(critic)))


def refuse_batch_statistics(critic: object, who: str) -> None:
    r"""Refuse a critic that normalises with the statistics of its batch.

    :math:`\nabla_{x_i} \sum_j f_j` is the gradient of :math:`f_i` only if no other :math:`f_j` sees
    :math:`x_i`.
    """
    mixing = batch_normalised([critic])
    if mixing is not None:
        raise InputError(
            f"{who}: a critic's score must depend on its own sample alone; got {mixing}, which mixes the batch, so "
            "that no gradient is one sample's; leave it out, or use LayerNorm or GroupNorm"
        )


def chain(critic: nn.Module) -> list[nn.Module] | None:
    """The layers with weights of a critic that is one chain of them and activations between; ``None`` for another.

    A ``Sequential`` is looked through, and so is a module whose ``layers`` is one and that says
    ``sequential = True``: without labels its forward is no more than that chain.
    """
    if getattr(critic, "sequential", False):
        critic = critic.layers  # type: ignore[assignment]
    if not isinstance(critic, nn.Sequential):
        return None
    layers: list[nn.Module] = []
    for part in critic:
        if plain_type(part) in WEIGHTED:
            layers.append(part)
        elif isinstance(part, nn.Sequential):
            inner = chain(part)
            if inner is None:
                return None
            layers += inner
        elif plain_type(part) not in HOMOGENEOUS:
            return None
    return layers


@torch.no_grad()
def rescale(critic: nn.Module) -> None:
    r"""Return the weights the size of a fresh network's, and leaves every normalised score as it was.

    .. math:: w_l \gets c_l w_l, \quad b_l \gets b_l \prod_{j \le l} c_j \qquad \Rightarrow \qquad f \gets f \prod_l c_l

    :math:`c_l > 0` brings the root mean square of :math:`w_l` to :math:`\sqrt{2 / \text{fan in}}`.
    A normalised score is blind to the scale of f, so nothing in the loss holds the weights where
    they are and they drift. A critic that is no :func:`chain` has only its ``head`` rescaled.

    Raises:
        InputError: for a critic that is no chain and has no linear ``head``, or whose weights are
            reparametrised.
    """
    layers = chain(critic)
    if layers is None:
        head = getattr(critic, "head", None)
        if not isinstance(head, nn.Linear):
            raise InputError(
                "rescale: a critic must be a Sequential of linear layers and ReLUs, or have a linear `head`; "
                f"got {type(critic).__name__}; give rescale=False"
            )
        layers = [head]
    if any(parametrize.is_parametrized(layer) for layer in layers):
        raise InputError(
            "rescale: the critic's weights are computed from others (spectral norm), and cannot be set"
        )
    weights = [_tensor(layer.weight) for layer in layers]
    targets = torch.tensor(
        [(2 * w.numel() / w[0].numel()) ** 0.5 for w in weights], dtype=torch.float64
    )
    found = torch.stack(torch._foreach_norm(weights)).to(targets)
    factors = torch.where(found > 0, targets / found, 1.0)
    torch._foreach_mul_(weights, factors.tolist())
    for layer, factor in zip(layers, factors.cumprod(0).tolist(), strict=True):
        if layer.bias is not None:
            _tensor(layer.bias).mul_(factor)


def plain_type(module: nn.Module) -> type:
    """The class of a module, also of one whose weights are reparametrised, which torch gives a class of its own."""
    return type(module).__bases__[0] if parametrize.is_parametrized(module) else type(module)


def _tensor(value: object) -> torch.Tensor:
    assert isinstance(value, torch.Tensor)
    return value


def parts(module: nn.Module) -> Iterator[nn.Module]:
    """All modules that see x: without those that compute weights from weights."""
    yield module
    children = (part for name, part in module.named_children() if name != "parametrizations")
    yield from joined.from_iterable(map(parts, children))


def _piecewise_linear(part: nn.Module) -> bool:
    if isinstance(part, _BatchNorm):
        return not part.training and part.running_mean is not None
    return (
        plain_type(part) in PIECEWISE_LINEAR
        or getattr(type(part), "piecewise_linear", False) is True
    )
