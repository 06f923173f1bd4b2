"""Rotary positions, masks, attention with a key/value cache, Transformer blocks."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "Attention",
    "KeyValueCache",
    "Mix",
    "Scale",
    "Step",
    "attend",
    "entropy_scale",
    "require_head_width",
    "stretched",
]

if TYPE_CHECKING:
    from univae.attention.cache import KeyValueCache
    from univae.attention.core import Attention, Mix, Step, attend, require_head_width
    from univae.attention.scaling import Scale, entropy_scale
    from univae.attention.stretching import stretched
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "cache": ["KeyValueCache"],
            "core": ["Attention", "Mix", "Step", "attend", "require_head_width"],
            "scaling": ["Scale", "entropy_scale"],
            "stretching": ["stretched"],
        },
    )
