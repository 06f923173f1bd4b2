"""The Transformer parts: against PyTorch's layer, steps against one pass, initial weights."""

import math

import pytest
import torch
from torch import nn

from univae.attention.cache import KeyValueCache
from univae.attention.core import attend
from univae.attention.rotary import phases
from univae.attention.transformer import Block, Embedding, Head, initialise


def causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return attend(q, k, v, causal=True)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_without_rotation_a_block_is_pytorchs_own_layer(norm: str) -> None:
    block = Block(16, 4, norm=norm)
    theirs = nn.TransformerEncoderLayer(
        16, 4, 64, 0.0, "gelu", norm_first=norm == "pre", batch_first=True
    )
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    pairs = {
        theirs.self_attn.in_proj_weight: block.attention.project.weight,
        theirs.self_attn.in_proj_bias: block.attention.project.bias,
        theirs.self_attn.out_proj.weight: block.attention.merge.weight,
        theirs.self_attn.out_proj.bias: block.attention.merge.bias,
        theirs.linear1.weight: block.wide.weight,
        theirs.linear1.bias: block.wide.bias,
        theirs.linear2.weight: block.narrow.weight,
        theirs.linear2.bias: block.narrow.bias,
    }
    for ours, norm_layer in ((block.first, theirs.norm1), (block.second, theirs.norm2)):
        pairs |= {norm_layer.weight: ours.weight, norm_layer.bias: ours.bias}
    with torch.no_grad():
        for target, source in pairs.items():
            target.copy_(source)
    x = torch.randn(2, 7, 16)
    no_rotation = phases(torch.zeros(7, dtype=torch.long), 4, dtype=x.dtype)[None]
    mask = torch.ones(7, 7, dtype=torch.bool).triu(1)
    expected = theirs(x, src_mask=mask)
    torch.testing.assert_close(block(x, no_rotation, causal), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("scale", ["sqrt", "log_n", "log_n_clip"])
def test_steps_against_a_cache_equal_one_pass(norm: str, scale: str) -> None:
    block = Block(16, 2, norm=norm)
    x = torch.randn(3, 9, 16)
    phase = phases(torch.arange(9), 8, dtype=torch.float64)
    whole = block(x, phase[None], lambda q, k, v: attend(q, k, v, causal=True, scale=scale, base=4))
    cache = KeyValueCache((3, 2, 9, 8), x, scale, 4)
    step = block.stepper(cache)
    stepped = torch.stack([step(x[:, t], phase[t]) for t in range(9)], 1)
    torch.testing.assert_close(stepped, whole, atol=1e-12, rtol=1e-12)


def test_a_remembered_row_is_a_key_and_no_more() -> None:
    block = Block(16, 2)
    x = torch.randn(2, 5, 16)
    phase = phases(torch.arange(5), 8, dtype=torch.float64)
    cache = KeyValueCache((2, 2, 5, 8), x)
    block.append_to_cache(x[:, 0], phase[0], cache)
    step = block.stepper(cache)
    stepped = torch.stack([step(x[:, t], phase[t]) for t in range(1, 5)], 1)
    torch.testing.assert_close(
        stepped, block(x, phase[None], causal)[:, 1:], atol=1e-12, rtol=1e-12
    )


def test_a_mix_that_returns_fewer_rows_gives_the_last_ones() -> None:
    block = Block(16, 2)
    x = torch.randn(2, 5, 16)
    phase = phases(torch.arange(5), 8, dtype=torch.float64)[None]
    fewer = block(x, phase, lambda q, k, v: causal(q, k, v)[..., 2:, :])
    torch.testing.assert_close(fewer, block(x, phase, causal)[:, 2:], atol=1e-12, rtol=1e-12)


def test_reordering_a_cache_moves_all_rows_of_a_text() -> None:
    block = Block(16, 2)
    x = torch.randn(3, 4, 16)
    phase = phases(torch.arange(4), 8, dtype=torch.float64)
    rows = torch.tensor([2, 2, 0])
    one, other = (KeyValueCache((3, 2, 4, 8), x) for _ in range(2))
    for t in range(3):
        block.stepper(one)(x[:, t], phase[t])
        block.stepper(other)(x[rows, t], phase[t])
    one.reorder(rows)
    torch.testing.assert_close(
        block.stepper(one)(x[:, 3], phase[3]), block.stepper(other)(x[:, 3], phase[3])
    )


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_head_and_embedding_share_one_table_and_excluded_ids_have_no_probability(norm: str) -> None:
    embedding = Embedding(11, 8, norm=norm)
    head = Head(11, 8, norm, excluded=(0, 4))
    table = embedding.tokens.weight
    logits = head(embedding(torch.tensor([[1, 2]]), 0), table)
    assert (logits[..., [0, 4]] == -math.inf).all()
    torch.testing.assert_close(
        logits[..., 1:4].logsumexp(-1).isfinite(), torch.ones(1, 2, dtype=torch.bool)
    )
    assert all(p is not table for p in head.parameters())
    logits.softmax(-1)[..., 1].sum().backward()
    assert table.grad is not None
    assert head.bias.grad.isfinite().all()
    assert (embedding(torch.tensor([3]), 0) - embedding(torch.tensor([3]), 1)).abs().max() > 0


def test_dropout_acts_on_every_branch_in_training_alone() -> None:
    block = Block(16, 2, dropout=0.5)
    x = torch.randn(2, 5, 16)
    phase = phases(torch.arange(5), 8, dtype=torch.float64)[None]
    assert not torch.equal(block(x, phase, causal), block(x, phase, causal))
    block.eval()
    assert torch.equal(block(x, phase, causal), block(x, phase, causal))


def test_initial_weights_are_truncated_normals_and_biases_zero() -> None:
    block = Block(64, 2)
    nn.init.ones_(block.wide.bias)
    initialise(block, std=0.02)
    assert block.wide.weight.abs().max() <= 0.04
    # of a normal cut at two deviations
    assert block.wide.weight.std().item() == pytest.approx(0.0176, rel=0.05)
    assert block.wide.bias.abs().max() == 0
    assert (block.first.weight == 1).all()
