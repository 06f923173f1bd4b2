"""Published weights of Hugging Face: read into the models here, and written for transformers."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = ["Checkpoint", "require_roformer", "write_roformer"]

if TYPE_CHECKING:
    from univae.huggingface.checkpoint import Checkpoint
    from univae.huggingface.export import require_roformer, write_roformer
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, {"checkpoint": ["Checkpoint"], "export": ["require_roformer", "write_roformer"]}
    )
