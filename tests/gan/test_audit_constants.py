"""Every row of CONSTANTS: no pair of inputs has a larger slope, and a linear map no larger norm."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gan.audit_constants import CONSTANTS, Call, lipschitz_constant
from univae.errors import InputError

Case = tuple[Callable[[], nn.Module], tuple[int, ...]]

# Modules, and the shape of one row.
CASES: dict[type[nn.Module], list[Case]] = {
    nn.Linear: [(lambda: nn.Linear(5, 3), (5,)), (lambda: nn.Linear(5, 3), (4, 5))],
    nn.Conv1d: [
        (lambda: nn.Conv1d(2, 3, 3, 2, 1), (2, 9)),
        (lambda: nn.Conv1d(2, 4, 3, groups=2, padding="same", dilation=2), (2, 9)),
        (lambda: nn.Conv1d(2, 3, 5, padding=2, padding_mode="reflect"), (2, 6)),
    ],
    nn.Conv2d: [
        (lambda: nn.Conv2d(2, 3, 3, padding="same"), (2, 5, 5)),
        (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 6)),
        (lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="replicate"), (2, 4, 4)),
    ],
    nn.Conv3d: [(lambda: nn.Conv3d(1, 2, 3, 1, 1), (1, 4, 4, 4))],
    nn.Identity: [(nn.Identity, (3,))],
    nn.Dropout: [(nn.Dropout, (3,))],
    nn.Dropout2d: [(nn.Dropout2d, (2, 3, 3))],
    nn.ReLU: [(nn.ReLU, (5,))],
    nn.ReLU6: [(nn.ReLU6, (5,))],
    nn.Tanh: [(nn.Tanh, (5,))],
    nn.LeakyReLU: [(lambda: nn.LeakyReLU(0.1), (5,)), (lambda: nn.LeakyReLU(-3.0), (5,))],
    nn.PReLU: [(lambda: nn.PReLU(init=-2.0), (5,)), (lambda: nn.PReLU(3), (3, 4))],
    nn.Flatten: [(nn.Flatten, (2, 3))],
    nn.Unflatten: [(lambda: nn.Unflatten(1, (2, 3)), (6,))],
    nn.PixelShuffle: [(lambda: nn.PixelShuffle(2), (4, 3, 3))],
    nn.PixelUnshuffle: [(lambda: nn.PixelUnshuffle(2), (1, 4, 4))],
    nn.ZeroPad2d: [(lambda: nn.ZeroPad2d((1, 2, -1, 0)), (1, 4, 4))],
    nn.ReflectionPad2d: [(lambda: nn.ReflectionPad2d(3), (1, 4, 4))],
    nn.ReplicationPad2d: [(lambda: nn.ReplicationPad2d((3, 0, 2, 1)), (1, 4, 4))],
    nn.AvgPool1d: [(lambda: nn.AvgPool1d(3, 1, 1), (1, 7))],
    nn.AvgPool2d: [
        (lambda: nn.AvgPool2d(2), (1, 4, 4)),
        (lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False), (1, 4, 5)),
        (lambda: nn.AvgPool2d(2, divisor_override=-1), (1, 4, 4)),
    ],
    nn.AvgPool3d: [(lambda: nn.AvgPool3d(2, ceil_mode=True), (1, 3, 4, 5))],
    nn.AdaptiveAvgPool1d: [(lambda: nn.AdaptiveAvgPool1d(7), (1, 4))],
    nn.AdaptiveAvgPool2d: [
        (lambda: nn.AdaptiveAvgPool2d(8), (1, 4, 4)),
        (lambda: nn.AdaptiveAvgPool2d(3), (1, 5, 7)),
    ],
    nn.MaxPool1d: [(lambda: nn.MaxPool1d(3, 1, 1), (1, 7))],
    nn.MaxPool2d: [
        (lambda: nn.MaxPool2d(2), (1, 4, 4)),
        (lambda: nn.MaxPool2d(3, 1, 1), (1, 4, 4)),
        (lambda: nn.MaxPool2d((2, 3), (1, 2), dilation=(2, 1)), (1, 5, 6)),
    ],
    nn.MaxPool3d: [(lambda: nn.MaxPool3d(2, 1), (1, 3, 3, 3))],
    nn.AdaptiveMaxPool2d: [
        (lambda: nn.AdaptiveMaxPool2d(3), (1, 5, 4)),
        (lambda: nn.AdaptiveMaxPool2d(7), (1, 4, 4)),
    ],
    nn.Upsample: [
        (lambda: nn.Upsample(scale_factor=3), (1, 3, 4)),
        (lambda: nn.Upsample(size=7), (1, 3)),
        (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 4, 4)),
    ],
}
ROWS = [(kind, *case) for kind, cases in CASES.items() for case in cases]

# Maps that are linear but for a bias.
NOT_LINEAR = (nn.ReLU, nn.ReLU6, nn.Tanh, nn.LeakyReLU, nn.PReLU)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool2d)


def constant(module: nn.Module, shape: tuple[int, ...]) -> float:
    x = torch.zeros(2, *shape)
    return lipschitz_constant(Call(module, tuple(x.shape), tuple(module(x).shape)))


def largest_slope(module: nn.Module, x: Tensor, y: Tensor) -> float:
    differences = (module(x) - module(y)).flatten(1).norm(dim=1)
    return (differences / (x - y).flatten(1).norm(dim=1)).max().item()


def test_every_row_has_a_case() -> None:
    assert CASES.keys() == CONSTANTS.keys()


@torch.no_grad()
@pytest.mark.parametrize(("kind", "build", "shape"), ROWS)
def test_no_pair_of_inputs_has_a_larger_slope_than_the_constant(
    kind: type[nn.Module], build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    module = build().eval()
    bound = constant(module, shape)
    x = torch.randn(500, *shape)
    for size in (1e-3, 1.0, 10.0):
        assert largest_slope(module, x, x + size * torch.randn(500, *shape)) <= bound * (1 + 1e-9)

    basis = torch.eye(math.prod(shape)).view(-1, *shape)
    assert largest_slope(module, basis, torch.zeros_like(basis)) <= bound * (1 + 1e-9)
    if kind in NOT_LINEAR:
        steepest = max(largest_slope(module, x, x + 0.01), largest_slope(module, x, x * 1.001))
        assert bound == pytest.approx(max(1.0, steepest), rel=1e-2)
    elif kind in POOLS:  # one place above all others is the maximum of all its windows
        assert largest_slope(module, 2 * basis, basis) == pytest.approx(bound)
    else:
        matrix = (module(basis) - module(torch.zeros_like(basis))).flatten(1)
        norm = torch.linalg.matrix_norm(matrix, 2).item()
        assert norm <= bound <= 1.02 * norm


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Upsample(scale_factor=2, mode="bicubic"), (2, 1, 4, 4), "Upsample of mode bicubic"),
        (nn.Flatten(0), (2, 3), "Flatten mixes the rows of a batch"),
        (nn.Unflatten(0, (1, 2)), (2, 3), "Unflatten mixes the rows of a batch"),
        (nn.Conv1d(2, 2, 1), (2, 4), r"must take batches of 3 dimensions; got .*\(2, 4\)"),
    ],
)
def test_a_call_without_a_constant_is_refused(
    module: nn.Module, shape: tuple[int, ...], message: str
) -> None:
    output = tuple(module.double()(torch.zeros(shape)).shape)
    with pytest.raises(InputError, match=message):
        lipschitz_constant(Call(module, shape, output))
