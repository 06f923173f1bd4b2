"""Own derivatives against autograd's of the composed operators, up to the third."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from univae import second_order
from univae.attention import second_order as operators
from univae.attention.core import attend
from univae.attention.second_order import TwiceDifferentiableNorm, attend_unmasked, gelu
from univae.second_order import has_own_derivatives

EPS = 1e-5
BATCH = 5
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5}  # relative, of the norm

Function = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def _own_at_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST_SCORES", "LEAST_ACTIVATIONS", "LEAST_NORMALISED"):
        monkeypatch.setattr(operators, name, 0)


def own_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return second_order.apply(operators._LayerNorm(EPS), x, weight, bias)


def composed_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, EPS)


def composed_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, twice_differentiable=True)


CASES: dict[str, tuple[Function, Function]] = {
    "attention": (attend_unmasked, composed_attention),
    "norm": (own_norm, composed_norm),
    "gelu": (gelu, F.gelu),
}


def inputs(case: str) -> list[Tensor]:
    if case == "attention":  # rows of a head are not next to each other, and queries are fewer
        q = torch.randn(BATCH, 6, 3, 8).transpose(1, 2)
        k = torch.randn(BATCH, 7, 3, 8).transpose(1, 2)
        return [q, k, torch.randn(BATCH, 7, 3, 4).transpose(1, 2)]
    if case == "norm":
        return [1 + 2 * torch.randn(BATCH, 7, 16), torch.randn(16), torch.randn(16)]
    return [2 * torch.randn(BATCH, 7, 3)]


def weighted(x: Tensor) -> Tensor:
    return (x.square() * torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view(x.shape)).sum()


def derivatives(
    function: Function, arguments: Sequence[Tensor], order: int, variables: int
) -> list[Tensor]:
    """Return gradients of a loss of the gradients of ... of the value in all arguments."""
    leaves = [x.detach().clone().requires_grad_() for x in arguments]
    value = function(*leaves)
    loss = weighted(value)
    for _ in range(order - 1):
        gradients = torch.autograd.grad(loss, leaves[:variables], create_graph=True)
        loss = sum(map(weighted, gradients)) + value.sum()
    return list(torch.autograd.grad(loss, leaves))


def assert_close(own: Sequence[Tensor], exact: Sequence[Tensor]) -> None:
    for a, b in zip(own, exact, strict=True):
        assert (a - b).norm() <= TOLERANCES[a.dtype] * b.norm()


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_own_derivatives_are_those_of_the_composed_operator(
    case: str, order: int, dtype: torch.dtype
) -> None:
    arguments = [x.to(dtype) for x in inputs(case)]
    for variables in range(1, len(arguments) + 1):  # what a first gradient was asked for
        own, composed = (derivatives(f, arguments, order, variables) for f in CASES[case])
        assert_close(own, composed)


@pytest.mark.parametrize("case", CASES)
def test_own_second_derivatives_are_those_of_finite_differences(case: str) -> None:
    first, *others = inputs(case)
    first = first[:1, :2]
    if case == "attention":
        others = [x[:1, :2, :3] for x in others]
    arguments = [x.detach().requires_grad_() for x in (first, *others)]
    assert torch.autograd.gradgradcheck(CASES[case][0], arguments)


@pytest.mark.parametrize("block", [1, 100, 2**20])
@pytest.mark.parametrize("case", ["attention", "gelu"])
def test_the_size_of_blocks_changes_nothing(
    case: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = inputs(case)
    exact = derivatives(CASES[case][1], arguments, 2, len(arguments))
    monkeypatch.setattr(operators, "BLOCK", block)
    assert_close(derivatives(CASES[case][0], arguments, 2, len(arguments)), exact)


@pytest.mark.parametrize("case", CASES)
def test_an_empty_batch_has_an_empty_value(case: str) -> None:
    first, *others = inputs(case)
    others = [x[:0] if x.ndim > 1 else x for x in others]
    assert CASES[case][0](first[:0], *others).numel() == 0


def test_frozen_weights_of_a_norm_get_no_gradient() -> None:
    x, weight, bias = inputs("norm")
    x.requires_grad_()
    (g,) = torch.autograd.grad(own_norm(x, weight, bias).square().sum(), x, create_graph=True)
    (own,) = torch.autograd.grad(weighted(g), x)
    value = composed_norm(x, weight, bias)
    (g,) = torch.autograd.grad(value.square().sum(), x, create_graph=True)
    assert_close([own], torch.autograd.grad(weighted(g), x))


def test_the_norm_is_torchs_with_the_same_weights() -> None:
    norm = TwiceDifferentiableNorm(16)
    twin = torch.nn.LayerNorm(16)
    assert list(norm.state_dict()) == list(twin.state_dict())
    x = torch.randn(3, 16)
    assert torch.equal(norm(x), twin(x))


# torch compiles decompositions at the first forward-mode derivative of a process
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_own_derivatives_are_for_plain_float32_and_float64_tensors_alone() -> None:
    x = torch.randn(3, 4)
    seen = []

    def record(x: Tensor) -> Tensor:
        seen.append(has_own_derivatives(x))
        return gelu(x)

    assert has_own_derivatives(x)
    assert has_own_derivatives(x.float(), x.float())
    assert not has_own_derivatives(x.bfloat16())
    assert not has_own_derivatives(x, x.float())
    assert not has_own_derivatives(x.to("meta"))
    torch.testing.assert_close(torch.func.vmap(record)(x), F.gelu(x))
    with forward_ad.dual_level():
        record(forward_ad.make_dual(x, x))
    assert seen == [False, False]


def test_own_derivatives_are_for_large_inputs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "LEAST_SCORES", 2 * 3 * 6 * 7)
    monkeypatch.setattr(operators, "LEAST_ACTIVATIONS", 20)
    monkeypatch.setattr(operators, "LEAST_NORMALISED", 32)
    q, k, v = (x.requires_grad_() for x in inputs("attention"))
    norm = TwiceDifferentiableNorm(16)
    for size, is_own in ((1, False), (2, True)):
        x = torch.randn(10 * size, requires_grad=True)
        rows = torch.randn(size, 16, requires_grad=True)
        values = (attend_unmasked(q[:size], k[:size], v[:size]), gelu(x), norm(rows))
        for value in values:
            assert (type(value.grad_fn).__name__ == "_ValueBackward") == is_own
