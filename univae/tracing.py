"""Whether a model is being exported as a graph, by ``torch.export`` or ``torch.onnx.export``."""

import torch

__all__ = ["is_exporting"]


def is_exporting() -> bool:
    """Return whether the calling code is traced into a graph of any batch.

    Values of tensors are then unknown, so that no branch may depend on them, and complex numbers
    have no casts.
    """
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()
