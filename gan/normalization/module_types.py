r"""Properties of a critic by its module types: piecewise linearity, chains, rescaling.

Module classes outside torch declare by class attributes which operations their ``forward`` has
besides the calls of submodules (:func:`gan.normalization.claims.declares`). Without a declaration
the slower second-order path is used.

``piecewise_linear = True``: piecewise linear operations only.
``affine_forward = True``: affine operations only; every kink is in a submodule.
``sequential = True``: without a class embedding ``embed``, the modules of ``layers`` in turn.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan.normalization.claims import declares, is_modified, plain_type, submodules_of_input
from univae.batch_statistics import batch_normalised
from univae.errors import InputError

__all__ = [
    "WEIGHTED",
    "chain",
    "is_piecewise_linear",
    "refuse_batch_statistics",
    "rescale",
    "sequence",
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
# Affine in evaluation mode.
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

# Kaiming's variance of weights before a ReLU is this over the fan-in.
KAIMING_VARIANCE = 2


def is_piecewise_linear(critic: object) -> bool:
    r"""Return whether :math:`\nabla_x f` is constant around almost every x, by module types alone.

    Then :math:`\nabla_x \|\nabla_x f\| = 0` there. Linear maps, (leaky) ReLU, pooling, BatchNorm in
    evaluation mode and modules that declare ``piecewise_linear = True`` qualify; a plain function,
    a subclass of torch's classes and a module with forward hooks do not.
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


def sequence(critic: nn.Module) -> list[nn.Module] | None:
    """Return the modules of a critic that applies one after another, in the order of the calls.

    Nested ``Sequential`` modules are replaced by their modules. A critic that declares ``sequential
    = True`` and has no class embedding ``embed`` is the sequence ``layers``. ``None`` for any other
    critic.
    """
    if declares(critic, "sequential") and getattr(critic, "embed", None) is None:
        critic = critic.get_submodule("layers")
    if plain_type(critic) is not nn.Sequential or is_modified(critic):
        return None
    assert isinstance(critic, nn.Sequential)

    modules: list[nn.Module] = []
    for module in critic:
        if plain_type(module) is not nn.Sequential:
            modules.append(module)
            continue
        inner_modules = sequence(module)
        if inner_modules is None:
            return None
        modules += inner_modules
    return modules


def chain(critic: nn.Module) -> list[nn.Module] | None:
    """Return the layers with weights of a critic that is one chain of layers.

    A chain is a :func:`sequence` of layers with weights and homogeneous modules, none of them with
    hooks. A layer that is called twice is returned twice. ``None`` for any other critic.
    """
    modules = sequence(critic)
    if modules is None:
        return None
    layers = [module for module in modules if plain_type(module) in WEIGHTED]
    others = [module for module in modules if plain_type(module) not in WEIGHTED]
    if any(plain_type(module) not in HOMOGENEOUS for module in others):
        return None
    return None if any(is_modified(module) for module in modules) else layers


@torch.no_grad()
def rescale(critic: nn.Module) -> None:
    r"""Rescale the weights to the size of initial weights, without changing normalised scores.

    .. math:: w_l \gets c_l w_l, \quad b_l \gets b_l \prod_{j \le l} c_j
        \qquad \Rightarrow \qquad f \gets f \prod_l c_l

    :math:`c_l > 0` sets the root mean square of :math:`w_l` to :math:`\sqrt{2 / \text{fan in}}`.
    A normalised score does not depend on the scale of f, so that no gradient controls the size of
    the weights, and they drift. Of a critic that is no :func:`chain` only the last layer ``head``
    is rescaled, and by the same factor an embedding ``embed`` of the width of its input: the score
    must be a projection :math:`w \cdot h + b + v_y \cdot h`, in which h depends on neither.

    Raises:
        InputError: for a critic that is no chain and has no linear ``head``, that calls a layer
            twice, or whose weights are reparametrised.
    """
    layers, embeddings = _rescalable_layers(critic)
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
    for embedding in embeddings:
        embedding.weight.mul_(factors[-1].item())


def _module_is_piecewise_linear(module: nn.Module) -> bool:
    if is_modified(module):
        return False
    if plain_type(module) in BATCH_NORMS:
        return not module.training and module.running_mean is not None
    return plain_type(module) in PIECEWISE_LINEAR or declares(module, "piecewise_linear")


def _rescalable_layers(critic: nn.Module) -> tuple[list[nn.Module], list[nn.Embedding]]:
    """Return the layers to rescale, and the class embeddings that take the factor of the last."""
    layers = chain(critic)
    embeddings: list[nn.Embedding] = []
    if not layers:
        head = getattr(critic, "head", None)
        if not isinstance(head, nn.Linear) or is_modified(head):
            raise InputError(
                "rescale: a critic must be a Sequential of linear layers and ReLUs without hooks, "
                f"or have a linear `head`; got {type(critic).__name__}; set rescale=False"
            )
        layers = [head]
        embedding = getattr(critic, "embed", None)
        if isinstance(embedding, nn.Embedding) and embedding.embedding_dim == head.in_features:
            embeddings.append(embedding)
    if any(parametrize.is_parametrized(layer) for layer in (*layers, *embeddings)):
        raise InputError(
            "rescale: the critic's weights are reparametrised (spectral norm), and cannot be "
            "changed; set rescale=False"
        )
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    if len(set(parameters)) < len(parameters):
        raise InputError(
            "rescale: each layer must have weights of its own; got two calls of one weight, which "
            "has no size for both; set rescale=False"
        )
    return layers, embeddings


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value
