r"""Who may attend to whom, as booleans: ``True`` where a query row may see a key column.

Masks broadcast against scores of shape (batch, heads, rows, keys). They are never added to scores
as large negative numbers: -1e12 does not exist in half precision.

References:
    Unified Language Model Pre-training (Dong et al., 2019), https://arxiv.org/abs/1905.03197
    UniVAE (Su, 2021), https://kexue.fm/archives/8475
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["causal", "padding", "prefix", "same_document", "uniae", "visible_keys"]


def causal(
    rows: int, keys: int, device: torch.device | None = None
) -> Bool[Tensor, "{rows} {keys}"]:
    """The rows are the last ``rows`` of ``keys`` positions; each sees itself and what came before.

    >>> causal(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return torch.ones(rows, keys, dtype=torch.bool, device=device).tril(keys - rows)


def padding(real: Bool[Tensor, "batch keys"]) -> Bool[Tensor, "batch 1 1 keys"]:
    """Every row sees the real keys of its own sequence."""
    return real[:, None, None, :]


def prefix(segments: Int[Tensor, "batch n"]) -> Bool[Tensor, "batch 1 n n"]:
    r"""UniLM: :math:`M_{qk} = [c_k \le c_q]` with :math:`c` the running sum of the segments.

    Source rows (segment 0) see the whole source and nothing else; target rows (segment 1) see the
    source and the target up to themselves.
    """
    order = segments.cumsum(1)
    return (order[:, None, None, :] <= order[:, None, :, None]).contiguous()


def uniae(segments: Int[Tensor, "batch n"], bridge: bool) -> Bool[Tensor, "batch 1 n n"]:
    r"""UniAE: encoder and decoder halves side by side; with ``bridge`` every decoder row also sees key 0.

    :math:`M_{qk} = [s_q = s_k \wedge c_k \le c_q] \vee [\text{bridge} \wedge k = 0]`: the encoder
    half (segment 0) is bidirectional, the decoder half (segment 1) causal, and key 0, the latent,
    is the only road between them.
    """
    same = segments[:, None, None, :] == segments[:, None, :, None]
    seen = prefix(segments) & same
    if bridge:
        seen[..., 0] = True
    return seen


def same_document(documents: Int[Tensor, "batch n"]) -> Bool[Tensor, "batch 1 n n"]:
    """Several documents packed into one row see only themselves."""
    return documents[:, None, None, :] == documents[:, None, :, None]


def visible_keys(
    rows: int, keys: int, mask: Bool[Tensor, "..."] | None = None, is_causal: bool = False
) -> Int[Tensor, "..."]:
    """Count the keys each row really sees: causal rows, padding, packed documents and a cache all included.

    The result broadcasts against scores with its key axis dropped, (..., rows) or (..., 1); a row
    that sees nothing counts 1, so that its logarithm is finite.
    """
    device = None if mask is None else mask.device
    if mask is None:
        counts = torch.arange(keys - rows + 1, keys + 1) if is_causal else torch.full((1,), keys)
        return counts.clamp_min(1)
    if is_causal:
        mask = mask & causal(rows, keys, device)
    return mask.expand(*mask.shape[:-1], keys).sum(-1).clamp_min(1)
