"""Every row of the registries of the attention core: score scales and placements of norms."""

import dataclasses

import pytest
import torch
from torch import nn

from univae.attention.core import attend
from univae.attention.norms import NORMS
from univae.attention.scaling import SCALES, entropy_scale
from univae.attention.transformer import Block, Embedding, Head
from univae.errors import InputError


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_multiplies_the_queries_by_its_factor(scale: str) -> None:
    q, k, v = torch.randn(3, 2, 5, 4).unbind(0)
    factor = entropy_scale(torch.arange(1, 6), scale, base=3)
    expected = attend(q * factor[:, None], k, v, causal=True)
    actual = attend(q, k, v, causal=True, scale=scale, base=3)
    torch.testing.assert_close(actual, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_is_one_at_the_base_and_never_decreases(scale: str) -> None:
    factor = entropy_scale(torch.arange(1, 100), scale, base=10)
    assert factor[9] == 1
    assert (factor.diff() >= 0).all()


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(InputError, match="scale must be one of sqrt, log_n, log_n_clip; got 'ln'"):
        entropy_scale(torch.arange(1, 3), "ln")


@pytest.mark.parametrize("name", NORMS)
def test_every_placement_normalises_each_row_once_before_the_table(name: str) -> None:
    x = 100 * torch.randn(7, 16)
    placement = NORMS[name]
    before = Embedding(9, 16, norm=name).norm
    after = Head(9, 16, name).transform
    norms = [child for module in (before, after) for child in module.modules()]
    assert isinstance(norms[0], nn.Identity if placement.pre else nn.LayerNorm)
    torch.testing.assert_close(after(x).std(-1, correction=0), torch.ones(7), atol=1e-3, rtol=0)
    normalised = placement.output_norm(16)(x).std(-1, correction=0)
    expected = torch.ones(7) if placement.pre else x.std(-1, correction=0)
    torch.testing.assert_close(normalised, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NORMS)
def test_every_placement_draws_as_many_initial_weights(name: str) -> None:
    torch.manual_seed(1)
    Block(8, 2, norm=name)
    Head(9, 8, name)
    after = torch.rand(())
    torch.manual_seed(1)
    Block(8, 2, norm=next(iter(NORMS)))
    Head(9, 8, next(iter(NORMS)))
    assert after == torch.rand(())


def test_every_row_has_a_summary() -> None:
    for row in (*SCALES.values(), *NORMS.values()):
        assert dataclasses.is_dataclass(row)
        assert row.summary
