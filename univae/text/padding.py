"""Token ids of texts as one padded tensor."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from univae.errors import InputError
from univae.text.special import END, PAD

__all__ = ["pad", "trimmed"]


def pad(sequences: Sequence[Sequence[int]]) -> Int64[Tensor, "batch T"]:
    """Append one END to every text's ids, and fill with PAD on the right.

    Raises:
        InputError: the batch is empty.
    """
    if not sequences:
        raise InputError("pad: needs at least one text; got none")
    rows = [torch.tensor([*ids, END]) for ids in sequences]
    return pad_sequence(rows, batch_first=True, padding_value=PAD)


def trimmed(ids: Int64[Tensor, "batch T"]) -> Int64[Tensor, "batch t"]:
    """Return ids without the columns on the right that are padding in every row; at least one."""
    columns = (ids != PAD).any(0).nonzero()
    return ids[:, : int(columns.max()) + 1] if len(columns) else ids[:, :1]
