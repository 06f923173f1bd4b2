"""Masks of UniAE, UniLM and causal attention, against the published matrices."""

import torch

from univae.attention import masks

SEGMENTS = torch.tensor([[0, 0, 0, 1, 1, 1]])


def test_the_uniae_masks_of_three_tokens_are_the_published_matrices() -> None:  # oracle U1
    independent = torch.tensor(
        [[1, 1, 1, 0, 0, 0]] * 3 + [[0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]]
    ).bool()
    bridged = independent.clone()
    bridged[3:, 0] = True
    assert torch.equal(masks.uniae(SEGMENTS, bridge=False)[0, 0], independent)
    assert torch.equal(masks.uniae(SEGMENTS, bridge=True)[0, 0], bridged)


def test_the_prefix_mask_lets_targets_see_the_source_and_sources_only_themselves() -> None:
    seen = masks.prefix(SEGMENTS)[0, 0].int().tolist()
    assert seen[:3] == [[1, 1, 1, 0, 0, 0]] * 3
    assert seen[3:] == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]


def test_causal_rows_are_the_last_ones() -> None:
    assert masks.causal(2, 4).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
