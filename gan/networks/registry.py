r"""The registry of network families, and building networks from configurations.

A generator maps latents (B, d) to rows, a critic rows (B, \*shape) to scores; images are in
[-1, 1]. With ``classes`` both take labels (B,) too: a generator computes the gains of its norms
from them or appends them to its latent, a critic adds the projection
:math:`\langle v_y, h(x) \rangle` to its score. Critics have no norms, except
:class:`AttentionCritic`: a score must depend on one row of the batch only, and must be piecewise
linear in it for the bounds of gradient normalisation.

References:
    Unsupervised Representation Learning with DCGANs (Radford et al., 2015),
    https://arxiv.org/abs/1511.06434

    Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018),
    https://arxiv.org/abs/1802.05957

    cGANs with Projection Discriminator (Miyato & Koyama, 2018), https://arxiv.org/abs/1802.05637

    Large Scale GAN Training for High Fidelity Natural Image Synthesis (Brock et al., 2018),
    https://arxiv.org/abs/1809.11096
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from gan.networks.attention import AttentionCritic, AttentionGenerator
from gan.networks.conv import ConvCritic, ConvGenerator
from gan.networks.layers import Network, is_image
from gan.networks.mlp import MLPCritic, MLPGenerator
from gan.networks.resnet import ResNetCritic, ResNetGenerator
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.image_shapes import Shape
from univae.registry import lookup

__all__ = [
    "AUTO",
    "NETWORKS",
    "NetworkFamily",
    "NetworkName",
    "build",
    "families_with",
    "network_config",
]

AUTO = "auto"  # the family is chosen by the shape of the rows


@dataclass(frozen=True)
class NetworkFamily:
    """A row of :data:`NETWORKS`: a generator, a critic, and the names of their options.

    All networks also take ``shape`` and ``classes``, all generators ``latent``.
    """

    summary: str
    generator: type[Network]
    critic: type[Network]
    options: tuple[str, ...] = ()  # of both networks
    generator_options: tuple[str, ...] = ()
    critic_options: tuple[str, ...] = ()

    def uses(self, option: str) -> bool:
        """Return whether the generator or the critic has ``option``."""
        return option in (*self.options, *self.generator_options, *self.critic_options)

    def config(
        self, shape: Shape, classes: int, values: Mapping[str, object]
    ) -> dict[str, JsonObject]:
        """Return the configurations of ``generator`` and ``critic`` for :func:`build`.

        ``values`` are options by name; those of other families are ignored.
        """
        shared = {"shape": shape, "classes": classes}
        shared |= {name: values[name] for name in self.options}
        generator = {
            "network": self.generator.__name__,
            "latent": values["latent"],
            **shared,
            **{name: values[name] for name in self.generator_options},
        }
        critic = {
            "network": self.critic.__name__,
            **shared,
            **{name: values[name] for name in self.critic_options},
        }
        return {"generator": generator, "critic": critic}


NETWORKS: dict[str, NetworkFamily] = {
    "mlp": NetworkFamily(
        "fully connected, for rows of any shape",
        MLPGenerator,
        MLPCritic,
        options=("hidden",),
        generator_options=("bounded",),
        critic_options=("leak",),
    ),
    "conv": NetworkFamily(
        "convolutions as in DCGAN",
        ConvGenerator,
        ConvCritic,
        options=("width",),
        critic_options=("leak",),
    ),
    "resnet": NetworkFamily(
        "residual convolutions as in SN-GAN and BigGAN",
        ResNetGenerator,
        ResNetCritic,
        options=("width",),
        generator_options=("skip",),
    ),
    "attention": NetworkFamily(
        "attention over patches",
        AttentionGenerator,
        AttentionCritic,
        options=("patch", "width", "heads", "layers"),
    ),
}

if TYPE_CHECKING:
    NetworkName: TypeAlias = str
else:
    NetworkName = Literal[(AUTO, *NETWORKS)]


def families_with(option: str) -> str:
    """Return the names of the families that use ``option``, for its help."""
    return ", ".join(name for name, family in NETWORKS.items() if family.uses(option))


def network_config(
    name: NetworkName, shape: Shape, classes: int, values: Mapping[str, object]
) -> dict[str, JsonObject]:
    """Return the configurations of ``generator`` and ``critic`` for rows of ``shape``.

    Args:
        name: a row of :data:`NETWORKS`, or ``auto``: ``conv`` for images, ``mlp`` for tables.
        shape: the shape of one row; images are (channels, height, width).
        classes: number of class labels; 0: not conditional.
        values: options of networks by name; those of other families are ignored.
    """
    if name == AUTO:
        name = "conv" if is_image(shape) else "mlp"
    family = lookup(NETWORKS, name, "network")
    # Images are bounded by a tanh, table columns have no bounds.
    return family.config(shape, classes, {"bounded": is_image(shape), **values})


def build(config: Mapping[str, Any]) -> Network:
    """Build a network with new weights from the ``config`` of a :class:`Network`.

    Raises:
        InputError: there is no such network, or it has other arguments.
    """
    arguments = dict(config)
    class_name = arguments.pop("network", None)
    shape = tuple(arguments.pop("shape", ()))
    classes: dict[str, type[Network]] = {}
    for family in NETWORKS.values():
        classes[family.generator.__name__] = family.generator
        classes[family.critic.__name__] = family.critic
    if class_name not in classes:
        raise InputError(f"build: network must be one of {', '.join(classes)}; got {class_name!r}")
    try:
        network = classes[class_name](shape, **arguments)
    except TypeError as error:
        raise InputError(
            f"build: the configuration does not fit {class_name} ({error}); it is of another "
            "version: train again"
        ) from error
    # With channels last in memory, a step takes a tenth to a quarter less time (gan_step).
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network
