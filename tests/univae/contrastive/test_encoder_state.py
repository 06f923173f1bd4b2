"""Buffers move as in one pass, and passes that differ by more than rounding are refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cached_encoders import WIDTH, assert_same, encoder, grads
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from univae.contrastive.drift import precision
from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import info_nce, paired_info_nce
from univae.errors import InputError


class Tracked(nn.Module):
    """Normalises each row by itself, and tracks the mean statistics of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 8)
        self.norm = nn.InstanceNorm1d(2, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x).unflatten(1, (2, 4)).tanh()).flatten(1)


class Scaled(nn.Module):
    """A buffer that every pass replaces by another tensor enters the representations."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 4)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.scale = 0.9 * self.scale + x.detach().abs().mean()
        return self.linear(x) * self.scale


class Grown(nn.Module):
    """A table that grows with the number of passes."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 4)
        self.register_buffer("table", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        self.table = torch.cat((self.table, x.detach().mean().reshape(1)))
        return self.linear(x) * self.table.sum()


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4))


STATEFUL: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "batch norm": (normalised, 12),
    "instance norm": (Tracked, 5),
    "spectral norm": (lambda: spectral_norm(nn.Linear(WIDTH, 4)), 5),
    "replaced": (Scaled, 5),
    "grown": (Grown, 5),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(3)
    return STATEFUL[name][0]()


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("keep", [0, 1, 9])
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: lambda x: model(x)])
def test_buffers_and_gradients_are_those_of_one_pass(
    name: str, keep: int, wrap: Callable[[nn.Module], Any]
) -> None:
    chunk = STATEFUL[name][1]
    once = made(name)
    twice = made(name)
    x = torch.randn(12, WIDTH)
    for _ in range(2):
        paired_info_nce(torch.cat([once(part) for part in x.split(chunk)])).backward()
        cached_backward(wrap(twice), x, paired_info_nce, chunk, keep=keep)
    assert_same(grads(twice), grads(once))
    assert list(once.buffers())
    for ours, theirs in zip(twice.buffers(), once.buffers(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_the_statistics_of_an_encoder_of_two_columns_move_once_a_column(keep: int) -> None:
    once = made("batch norm")
    twice = made("batch norm")
    x = torch.randn(12, WIDTH)
    y = torch.randn(12, WIDTH)
    info_nce(once(x), once(y)).backward()
    cached_backward([twice, twice], (x, y), info_nce, 12, keep=keep)
    assert_same(grads(twice), grads(once))
    assert twice[1].num_batches_tracked == 2
    for ours, theirs in zip(twice.buffers(), once.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_buffers_are_those_of_the_first_pass_after_an_error_too() -> None:
    model = made("instance norm")
    twin = made("instance norm")
    x = torch.randn(12, WIDTH)
    calls = []

    def fails(part: Tensor) -> Tensor:
        calls.append(len(part))
        if len(calls) == 5:
            raise OSError
        return model(part)

    with pytest.raises(OSError):
        cached_backward(fails, x, paired_info_nce, 4, keep=0)
    for part in x.split(4):
        twin(part)
    for ours, theirs in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs)


class Drifting(nn.Module):
    """Its second pass is off by a share of the representations, as a hidden state would have it."""

    def __init__(self, share: float, chunks: int) -> None:
        super().__init__()
        self.model = encoder()
        self.share = share
        self.left = chunks

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        return self.model(x) * (1 if self.left >= 0 else 1 + self.share)


@pytest.mark.parametrize(
    ("dtype", "rounding"), [(torch.float64, 5e-14), (torch.float32, 3e-5), (torch.bfloat16, 9e-3)]
)
def test_rounding_is_accepted_and_more_is_refused(dtype: torch.dtype, rounding: float) -> None:
    x = torch.randn(8, WIDTH, dtype=dtype)
    cached_backward(Drifting(rounding / 2, 2).to(dtype), x, paired_info_nce, 4, keep=0)
    message = r"relative distance of .* where rounding explains .*so the gradients in .grad are wr"
    with pytest.raises(InputError, match=message):
        cached_backward(Drifting(4 * rounding, 2).to(dtype), x, paired_info_nce, 4, keep=0)


def test_sums_in_another_order_are_rounding() -> None:
    weight = torch.randn(4, 500, dtype=torch.float32).requires_grad_()
    x = torch.randn(8, 500, dtype=torch.float32)
    calls = []

    def encode(part: Tensor) -> Tensor:
        calls.append(len(part))
        return part @ weight.T if len(calls) <= 2 else part.flip(-1) @ weight.flip(-1).T

    assert not torch.equal(x @ weight.T, x.flip(-1) @ weight.flip(-1).T)
    cached_backward(encode, x, paired_info_nce, 4, keep=0)
    assert len(calls) == 4


@pytest.mark.parametrize("large", [1.0, 1e9])
@pytest.mark.parametrize("columns", [1, 2])
def test_every_output_is_compared_at_its_own_scale(large: float, columns: int) -> None:
    model = encoder()
    source = torch.Generator().manual_seed(1)
    x = torch.randn(8, WIDTH)

    def repeats(part: Tensor) -> Tensor:
        return large * model(part)

    def changes(part: Tensor) -> Tensor:
        return model(part) + 1e-3 * torch.randn(len(part), 4, generator=source)

    def both(part: Tensor) -> tuple[Tensor, Tensor]:
        return repeats(part), changes(part)

    def loss(v: Tensor, w: Tensor) -> Tensor:
        return paired_info_nce(w) + v.sum()

    arguments = (both, x, lambda v: loss(*v))
    if columns == 2:
        arguments = ([repeats, changes], (x, x), loss)
    with pytest.raises(InputError, match="returned other representations"):
        cached_backward(*arguments, 4)


def test_the_precision_is_the_lowest_of_tensors_and_autocast() -> None:
    single = torch.zeros(1, dtype=torch.float32)
    double = torch.zeros(1, dtype=torch.float64)
    assert precision([torch.zeros(1, dtype=torch.long)]) == 0
    assert precision([double]) == 2**-52
    assert precision([double, single]) == 2**-23
    with torch.autocast("cpu", torch.bfloat16):
        assert precision([single]) == 2**-7
