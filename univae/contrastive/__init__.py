"""Contrastive losses, and their exact gradients in chunks and over processes."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "by_mean_tokens",
    "by_tokens",
    "cached_backward",
    "cosent",
    "gather_rows",
    "info_nce",
    "paired_info_nce",
    "partners",
]

if TYPE_CHECKING:
    from univae.contrastive.all_gather import gather as gather_rows
    from univae.contrastive.chunking import by_mean_tokens, by_tokens
    from univae.contrastive.gradient_cache import cached_backward
    from univae.contrastive.losses import info_nce, paired_info_nce, partners
    from univae.contrastive.ranking import cosent
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "all_gather": ["gather as gather_rows"],
            "chunking": ["by_mean_tokens", "by_tokens"],
            "gradient_cache": ["cached_backward"],
            "losses": ["info_nce", "paired_info_nce", "partners"],
            "ranking": ["cosent"],
        },
    )
