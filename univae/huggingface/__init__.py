"""Published weights of Hugging Face: read into the models here, and written for transformers."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = ["Checkpoint", "write_roformer"]

if TYPE_CHECKING:
    from univae.huggingface.checkpoint import Checkpoint
    from univae.huggingface.export import write_roformer
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, {"checkpoint": ["Checkpoint"], "export": ["write_roformer"]}
    )
