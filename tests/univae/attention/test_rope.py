"""Rotary positions against the published formula."""

import math

import pytest
import torch

from univae.attention.rotary import phases, rotate, stretched_base
from univae.errors import InputError


def published(x: torch.Tensor, position: int) -> torch.Tensor:
    """Rotate one pair at a time, as the paper writes it."""
    out = x.clone()
    width = x.shape[-1]
    for i in range(width // 2):
        angle = position * 10000 ** (-2 * i / width)
        a = x[2 * i].item()
        b = x[2 * i + 1].item()
        out[2 * i] = a * math.cos(angle) - b * math.sin(angle)
        out[2 * i + 1] = b * math.cos(angle) + a * math.sin(angle)
    return out


@pytest.mark.parametrize("width", [2, 8, 64])
@pytest.mark.parametrize("position", [0, 1, 7, 511, 100_000])
def test_rotation_equals_the_published_formula_on_interleaved_pairs(
    width: int, position: int
) -> None:
    x = torch.randn(width)
    rotated = rotate(x, phases(torch.tensor(position), width, dtype=x.dtype))
    torch.testing.assert_close(rotated, published(x, position), atol=1e-12, rtol=1e-10)


def test_rotation_is_not_the_half_split_layout() -> None:
    x = torch.randn(8)
    phase = phases(torch.tensor(3), 8, dtype=torch.float64)
    half = torch.cat(
        (x[:4] * phase.real - x[4:] * phase.imag, x[4:] * phase.real + x[:4] * phase.imag)
    )
    assert (rotate(x, phase) - half).abs().max() > 0.1


def test_scores_depend_on_the_difference_of_positions_alone() -> None:
    q, k = torch.randn(2, 16)
    phase = phases(torch.arange(40), 16, dtype=q.dtype)
    score = [(rotate(q, phase[m]) @ rotate(k, phase[m - 5])).item() for m in (5, 17, 39)]
    assert max(score) - min(score) < 1e-12


def test_half_precision_is_rotated_in_float32() -> None:
    x = torch.randn(64, dtype=torch.float32).bfloat16()
    phase = phases(torch.tensor(1000), 64)
    assert phase.dtype == torch.complex64
    expected = rotate(x.float(), phase).bfloat16()
    torch.testing.assert_close(rotate(x, phase), expected, atol=0, rtol=0)


def test_odd_heads_are_refused() -> None:
    with pytest.raises(InputError, match="got width=5"):
        phases(torch.arange(3), 5)


def test_an_exported_graph_rotates_by_real_numbers_as_complex_ones_do(unchecked: None) -> None:
    class Rotation(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            phase = phases(torch.arange(x.shape[1]), x.shape[2] // 2, dtype=x.dtype)
            return rotate(x, torch.stack((phase, phase.roll(1, 0)), 1).flatten(1))

    x = torch.randn(3, 5, 16)
    free = torch.export.Dim.AUTO
    graph = torch.export.export(
        Rotation(), (x,), dynamic_shapes=({0: free, 1: free},), strict=False
    )
    assert "complex" not in str(graph.graph)
    other = torch.randn(2, 9, 16)
    torch.testing.assert_close(graph.module()(other), Rotation()(other), atol=1e-12, rtol=0)


@pytest.mark.parametrize("factor", [2.0, 8.0])
def test_a_stretched_base_slows_the_slowest_pair_by_the_factor_and_keeps_the_fastest(
    factor: float,
) -> None:
    width = 24
    stretched = stretched_base(10_000.0, width, factor)
    before, after = (
        phases(torch.tensor(1), width, base, torch.float64).angle()
        for base in (10_000.0, stretched)
    )
    assert after[0].item() == before[0].item()
    assert (before[-1] / after[-1]).item() == pytest.approx(factor, rel=1e-9)
    assert stretched_base(10_000.0, width, 1.0) == 10_000.0


def test_one_pair_cannot_be_stretched() -> None:
    with pytest.raises(InputError, match="a head of 2 features"):
        stretched_base(10_000.0, 2, 4.0)
