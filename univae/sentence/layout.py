"""The layout of RoFormer-Sim's rows: [start, source, end | target], and padding between the two.

Where sources of a batch differ in length, padding lies between source and target. It is masked
for all rows, and the positions of a target follow those of its own source.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from univae.attention.masks import padding, prefix
from univae.devices import all_true
from univae.text.special import END, PAD

__all__ = ["ends", "is_real", "positions", "tokens", "unilm_mask"]


def is_real(source: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch rows"]:
    """Return a mask of the rows of [start, source] that are not padding."""
    return F.pad(source != PAD, (1, 0), value=True)


def ends(x: Float[Tensor, "batch rows width"], real: Tensor) -> Float[Tensor, "batch width"]:
    """Return the row of each source's end token."""
    return x[torch.arange(len(x), device=x.device), real.sum(1) - 1]


def positions(real: Bool[Tensor, "batch rows"], target_rows: int) -> Int[Tensor, "batch all"]:
    """Return the positions of all rows: a target's follow those of its source's real rows."""
    batch, source_rows = real.shape
    source_positions = torch.arange(source_rows, device=real.device).expand(batch, source_rows)
    target_positions = real.sum(1, keepdim=True) + torch.arange(target_rows, device=real.device)
    return torch.cat((source_positions, target_positions), 1)


def unilm_mask(real: Bool[Tensor, "batch rows"], target_rows: int) -> Bool[Tensor, "..."]:
    """Return the UniLM mask of [source | target] rows, with the padding of sources masked."""
    source_rows = real.shape[1]
    segments = (torch.arange(source_rows + target_rows, device=real.device) >= source_rows).long()
    mask = prefix(segments[None])
    if all_true(real):
        return mask
    return mask & padding(F.pad(real, (0, target_rows), value=True))


def tokens(row: Int[Tensor, "length"]) -> list[int]:
    """Return a text's tokens, without its end and padding."""
    ids: list[int] = row.tolist()
    if END in ids:
        return ids[: ids.index(END)]
    return [token for token in ids if token != PAD]
