"""Which parameters weight decay may shrink."""

from typing import Any

from torch import nn

__all__ = ["parameter_groups"]


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into those that decay and those that do not, for any optimizer.

    Decay shrinks the matrices that mix features. Biases, gains of norms and scalars (fewer than two
    dimensions) set an operating point, and the row of an embedding shrinks at every step but is
    mended only when its token occurs: neither decays. A parameter tied to an embedding is an
    embedding.
    """
    embeddings = {
        id(p)
        for m in module.modules()
        if isinstance(m, nn.Embedding | nn.EmbeddingBag)
        for p in m.parameters()
    }
    parameters = [p for p in module.parameters() if p.requires_grad]  # each once, ties included
    decays = [p.ndim >= 2 and id(p) not in embeddings for p in parameters]
    groups = [
        {
            "params": [p for p, d in zip(parameters, decays, strict=True) if d],
            "weight_decay": weight_decay,
        },
        {
            "params": [p for p, d in zip(parameters, decays, strict=True) if not d],
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]
