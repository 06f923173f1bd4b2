"""Image and table VAEs, and their registry."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = ["MLPVAE", "AttentionVAE", "ConvVAE", "LadderVAE", "build"]

if TYPE_CHECKING:
    from density.images.attention import AttentionVAE
    from density.images.conv import ConvVAE
    from density.images.ladder import LadderVAE
    from density.images.mlp import MLPVAE
    from density.images.registry import build
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "attention": ["AttentionVAE"],
            "conv": ["ConvVAE"],
            "ladder": ["LadderVAE"],
            "mlp": ["MLPVAE"],
            "registry": ["build"],
        },
    )
