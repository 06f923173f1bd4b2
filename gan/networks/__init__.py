"""Generators and critics, and their registry."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "AttentionCritic",
    "AttentionGenerator",
    "ConvCritic",
    "ConvGenerator",
    "MLPCritic",
    "MLPGenerator",
    "ResNetCritic",
    "ResNetGenerator",
    "build",
]

if TYPE_CHECKING:
    from gan.networks.attention import AttentionCritic, AttentionGenerator
    from gan.networks.conv import ConvCritic, ConvGenerator
    from gan.networks.mlp import MLPCritic, MLPGenerator
    from gan.networks.registry import build
    from gan.networks.resnet import ResNetCritic, ResNetGenerator
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "attention": ["AttentionCritic", "AttentionGenerator"],
            "conv": ["ConvCritic", "ConvGenerator"],
            "mlp": ["MLPCritic", "MLPGenerator"],
            "registry": ["build"],
            "resnet": ["ResNetCritic", "ResNetGenerator"],
        },
    )
