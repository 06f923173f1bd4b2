"""Operator norms are never below the dense singular value, and close to it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gan.normalization.operator_norms as operator_norms
from gan.normalization import convolution_symbol
from gan.normalization.convolution_symbol import torus_norm
from gan.normalization.operator_norms import nonnegative_norm, operator_norm
from univae.errors import InputError


def dense_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """Return the largest singular value of the matrix of a layer without its bias."""
    with torch.no_grad():
        basis = torch.eye(math.prod(shape)).view(-1, *shape)
        matrix = (layer(basis) - layer(torch.zeros_like(basis))).flatten(1)
        return torch.linalg.matrix_norm(matrix, 2).item()


def random_convolution(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Draw a convolution of one to three dimensions with random options."""
    draws = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)

    def choose(*values: int) -> int:
        return values[int(torch.randint(len(values), (1,), generator=draws))]

    sides = choose(1, 2, 2, 3)
    kernel = tuple(choose(1, 2, 3, 4 if sides < 3 else 3) for _ in range(sides))
    stride = tuple(choose(1, 1, 2, 3) for _ in range(sides))
    dilation = tuple(choose(1, 1, 2) for _ in range(sides))
    padding = tuple(choose(0, 1, size) for size in kernel)
    groups = choose(1, 1, 2)
    channels = (groups * choose(1, 2), groups * choose(1, 2, 3))
    mode = ("zeros", "zeros", "circular", "reflect", "replicate")[choose(0, 1, 2, 3, 4)]
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[sides - 1]
    conv = kind(*channels, kernel, stride, padding, dilation, groups, padding_mode=mode)
    longest = {1: 40, 2: 9, 3: 6}[sides]
    return conv, (channels[0], *(choose(longest - 1, longest) for _ in range(sides)))


@pytest.mark.parametrize("seed", range(60))
def test_a_norm_is_exact_where_it_is_dense_and_never_too_small_elsewhere(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv, shape = random_convolution(seed)
    exact = dense_norm(conv, shape)
    dense = operator_norm(conv, shape)
    monkeypatch.setattr(operator_norms, "DENSE_SIDE", 0)
    by_symbol = operator_norm(conv, shape)
    assert exact <= by_symbol
    assert exact * (1 - 1e-12) <= dense <= by_symbol * (1 + 1e-9)
    if math.prod(shape) <= 1024:
        assert dense == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize(
    ("channels_in", "channels_out", "kernel", "stride", "side", "excess"),
    [
        (4, 6, 3, 1, 8, 0.05),
        (8, 16, 4, 2, 8, 0.05),
        (1, 16, 3, 1, 16, 0.02),
        (4, 8, 4, 2, 16, 0.02),
        (2, 4, 3, 1, 24, 0.01),
    ],
)
def test_the_symbol_is_close_to_the_norm_on_images(
    channels_in: int,
    channels_out: int,
    kernel: int,
    stride: int,
    side: int,
    excess: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, 1)
    exact = operator_norm(conv, (channels_in, side, side))
    monkeypatch.setattr(operator_norms, "DENSE_SIDE", 0)
    assert exact <= operator_norm(conv, (channels_in, side, side)) <= (1 + excess) * exact


def test_a_circular_convolution_has_the_norm_of_its_torus() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
    for side in (4, 7):
        exact = dense_norm(conv, (2, side, side))
        symbol = torus_norm(conv.weight.detach(), (side - 2,) * 2, [(1, 1)] * 2, (1, 1), (1, 1), 1)
        matrices = torch.fft.fft2(conv.weight.detach(), (side, side)).permute(2, 3, 0, 1)
        assert torch.linalg.matrix_norm(matrices, 2).max().item() == pytest.approx(exact)
        assert symbol <= 1.3 * exact  # a torus of one place less


def test_fewer_frequencies_bound_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        weight = torch.randn(2, 3, 3, 3)
        options = ((40, 40), [(1, 1)] * 2, (1, 1), (1, 1), 1)
        monkeypatch.setattr(convolution_symbol, "FREQUENCIES", 4096)
        all_frequencies = torus_norm(weight, *options)
        monkeypatch.setattr(convolution_symbol, "FREQUENCIES", 100)
        bound = torus_norm(weight, *options)
        # the root of the factor 1 / cos(2 pi / M) of each of two dimensions, of 10 and of 42 places
        supremum = all_frequencies / math.cos(math.pi / 21)
        assert all_frequencies <= bound <= supremum / math.cos(math.pi / 5)


def test_a_nonnegative_map_has_a_bound_from_its_first_iterate_on() -> None:
    for _ in range(20):
        matrix = torch.rand(6, 9) * (torch.rand(6, 9) < 0.3)
        exact = torch.linalg.matrix_norm(matrix, 2).item()

        def multiply(x: Tensor, matrix: Tensor = matrix) -> Tensor:
            return F.linear(x, matrix)

        bound = nonnegative_norm(multiply, (9,))
        ones_bound = (matrix.sum(0).max() * matrix.sum(1).max()).sqrt().item()
        assert exact * (1 - 1e-12) <= bound <= ones_bound * (1 + 1e-8)


def test_layers_without_a_norm_are_refused_or_no_number() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 5 * super().forward(x)

    for layer in (nn.ReLU(), Scaled(3, 3)):
        with pytest.raises(InputError, match="takes linear layers and convolutions; got"):
            operator_norm(layer, (3,))
    with pytest.raises(InputError, match=r"Conv2d takes rows of 3 dimensions.* shape=\(3, 4\)"):
        operator_norm(nn.Conv2d(3, 1, 1), (3, 4))
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, math.inf)
    assert math.isnan(operator_norm(layer, (2,)))
    nn.init.zeros_(layer.weight)
    assert operator_norm(layer, (2,)) == 0
