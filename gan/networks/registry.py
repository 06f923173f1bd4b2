r"""Generators and critics of vectors and images, built from plain values kept in ``config``; :func:`build` makes them.

A generator takes latents (B, d), a critic data (B, \*shape) with images in [-1, 1]; with
``classes`` both take labels (B,) besides: a generator turns them into gains of its norms or a part
of its latent, a critic adds the projection :math:`\langle v_y, h(x) \rangle` to its score. Critics
have no norm of any kind but in :class:`AttentionCritic`: a score must depend on its own sample
alone, and on it piecewise linearly for the bounds of gradient normalisation.

References:
    Unsupervised Representation Learning with DCGANs (Radford et al., 2015),
    https://arxiv.org/abs/1511.06434 Spectral Normalization for Generative Adversarial Networks
    (Miyato et al., 2018), https://arxiv.org/abs/1802.05957 cGANs with Projection Discriminator
    (Miyato & Koyama, 2018), https://arxiv.org/abs/1802.05637 Large Scale GAN Training for High
    Fidelity Natural Image Synthesis (Brock et al., 2018), https://arxiv.org/abs/1809.11096
"""

from collections.abc import Callable, Mapping
from typing import Any

from gan.networks.attention import AttentionCritic, AttentionGenerator
from gan.networks.conv import ConvCritic, ConvGenerator
from gan.networks.layers import Network
from gan.networks.mlp import MLPCritic, MLPGenerator
from gan.networks.resnet import ResNetCritic, ResNetGenerator
from univae.errors import InputError

__all__ = ["build"]


NETWORKS: dict[str, Callable[..., Network]] = {
    kind.__name__: kind
    for kind in (
        MLPGenerator,
        MLPCritic,
        ConvGenerator,
        ConvCritic,
        ResNetGenerator,
        ResNetCritic,
        AttentionGenerator,
        AttentionCritic,
    )
}


def build(config: Mapping[str, Any]) -> Network:
    """Make the network that a ``config`` describes, also one that was stored as JSON.

    Its weights start anew.
    """
    rest = dict(config)
    kind = rest.pop("network", None)
    shape = tuple(rest.pop("shape", ()))
    if kind not in NETWORKS:
        raise InputError(f"build: network must be one of {', '.join(NETWORKS)}; got {kind!r}")
    try:
        return NETWORKS[kind](shape, **rest)
    except TypeError as error:
        raise InputError(
            f"build: a configuration of another version ({error}); train anew"
        ) from error
