"""Padded ids."""

import torch

from univae.text.padding import pad, trimmed
from univae.text.special import END, PAD


def test_columns_of_padding_alone_are_trimmed_but_for_one() -> None:
    ids = pad([[5, 6], [7]])
    assert ids.tolist() == [[5, 6, END], [7, END, PAD]]
    assert torch.equal(trimmed(ids), ids)
    assert trimmed(ids[1:]).tolist() == [[7, END]]
    assert trimmed(torch.full((2, 3), PAD)).tolist() == [[PAD], [PAD]]
    assert trimmed(ids[:0]).shape == (0, 1)
