r"""Boolean attention masks: ``True`` where a query row may see a key column.

Masks broadcast against scores of shape (batch, heads, rows, keys). They are never added to scores
as large negative numbers: -1e12 does not exist in half precision.

References:
    Unified Language Model Pre-training (Dong et al., 2019), https://arxiv.org/abs/1905.03197
    UniVAE (Su, 2021), https://kexue.fm/archives/8475
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["causal", "padding", "prefix", "uniae", "visible_keys"]


def causal(
    rows: int, keys: int, device: torch.device | None = None
) -> Bool[Tensor, "{rows} {keys}"]:
    """Return the mask of the last ``rows`` of ``keys`` positions.

    Each row sees itself and the positions before it.

    >>> causal(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return torch.ones(rows, keys, dtype=torch.bool, device=device).tril(keys - rows)


def padding(real: Bool[Tensor, "batch keys"]) -> Bool[Tensor, "batch 1 1 keys"]:
    """Return the mask under which every row sees the real keys of its sequence."""
    return real[:, None, None, :]


def prefix(segments: Int[Tensor, "batch n"]) -> Bool[Tensor, "batch 1 n n"]:
    r"""Return the UniLM mask :math:`M_{qk} = [c_k \le c_q]`, c the running sum of the segments.

    Source rows (segment 0) see the whole source and nothing else; target rows (segment 1) see the
    source and the target up to themselves.
    """
    order = segments.cumsum(1)
    return (order[:, None, None, :] <= order[:, None, :, None]).contiguous()


def uniae(segments: Int[Tensor, "batch n"], *, bridge: bool) -> Bool[Tensor, "batch 1 n n"]:
    r"""Return the UniAE mask of encoder and decoder halves side by side.

    :math:`M_{qk} = [s_q = s_k \wedge c_k \le c_q] \vee [\text{bridge} \wedge k = 0]`: the encoder
    half (segment 0) is bidirectional, the decoder half (segment 1) causal. With ``bridge`` all rows
    also see key 0, the latent, which is then the only connection of the halves.
    """
    same_half = segments[:, None, None, :] == segments[:, None, :, None]
    mask = prefix(segments) & same_half
    if bridge:
        mask[..., 0] = True
    return mask


def visible_keys(
    rows: int, keys: int, mask: Bool[Tensor, "..."] | None = None, *, is_causal: bool = False
) -> Int[Tensor, "..."]:
    """Count the keys that each row sees, under ``mask`` and, with ``is_causal``, before its end.

    The result broadcasts against scores without their key axis, (..., rows) or (..., 1). A row that
    sees no key counts 1, so that its logarithm is finite.
    """
    if mask is None:
        if is_causal:
            return torch.arange(keys - rows + 1, keys + 1).clamp_min(1)
        return torch.full((1,), keys).clamp_min(1)
    if is_causal:
        mask = mask & causal(rows, keys, mask.device)
    return mask.expand(*mask.shape[:-1], keys).sum(-1).clamp_min(1)
