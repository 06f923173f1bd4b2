"""Parameter groups: which parameters weight decay shrinks."""

from torch import Tensor, nn

from univae.optim.base import Group

__all__ = ["parameter_groups"]

MATRIX_DIMS = 2  # and more: weights of convolutions


def parameter_groups(module: nn.Module, weight_decay: float) -> list[Group]:
    """Return the trainable parameters that decay and those that do not, as optimizer groups.

    Weight decay is for the matrices that mix features. Biases, gains of norms and scalars (fewer
    than two dimensions) set an operating point, and the row of an embedding shrinks at every step
    but gets a gradient only when its token occurs: neither decays. A parameter tied to an embedding
    is an embedding. An empty group is omitted.
    """
    embeddings = _embedding_ids(module)
    decayed: list[Tensor] = []
    constant: list[Tensor] = []
    for p in module.parameters():  # yields tied parameters once
        if not p.requires_grad:
            continue
        is_matrix = p.ndim >= MATRIX_DIMS and id(p) not in embeddings
        group = decayed if is_matrix else constant
        group.append(p)

    groups: list[Group] = []
    if decayed:
        groups.append({"params": decayed, "weight_decay": weight_decay})
    if constant:
        groups.append({"params": constant, "weight_decay": 0.0})
    return groups


def _embedding_ids(module: nn.Module) -> set[int]:
    ids = set()
    for submodule in module.modules():
        if isinstance(submodule, nn.Embedding | nn.EmbeddingBag):
            ids |= {id(p) for p in submodule.parameters()}
    return ids
