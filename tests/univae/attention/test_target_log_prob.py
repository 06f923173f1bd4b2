"""Log-probabilities in blocks are those of all logits at once, with their gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from univae.attention import target_log_prob as module
from univae.attention.target_log_prob import target_log_prob
from univae.attention.transformer import Head
from univae.text.special import PAD

ROWS = 13
WIDTH = 5
VOCABULARY = 11


def plain(x: Tensor, table: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    return -F.cross_entropy(F.linear(x, table, bias), targets, reduction="none")


def arguments(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(ROWS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,)]
    draws = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    x, table, bias = (draw.to(dtype).requires_grad_() for draw in draws)
    return x, table, bias, torch.randint(0, VOCABULARY, (ROWS,), generator=generator)


@pytest.fixture(autouse=True, params=[1, 4 * VOCABULARY, 2**22])
def _block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a block have one row, four rows, or all of them."""
    monkeypatch.setattr(module, "LOGITS_ON_HOST", request.param)


@pytest.mark.parametrize("equal", [True, False])
def test_values_and_gradients_are_those_of_cross_entropy(equal: bool) -> None:
    x, table, bias, targets = arguments()
    weights = torch.full((ROWS,), 0.3) if equal else torch.linspace(-1, 1, ROWS)
    expected = plain(x, table, bias, targets)
    gradients = torch.autograd.grad(expected @ weights.double(), (x, table, bias))
    found = target_log_prob(x, table, bias, targets)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    ours = torch.autograd.grad(found @ weights.double(), (x, table, bias))
    for one, other in zip(ours, gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_values_without_gradients_are_the_same() -> None:
    x, table, bias, targets = arguments()
    with torch.no_grad():
        found = target_log_prob(x, table, bias, targets)
    assert torch.equal(found, target_log_prob(x, table, bias, targets).detach())
    assert not found.requires_grad


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_that_nothing_needs_are_not_computed(
    enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, table, bias, targets = arguments()
    table.requires_grad_(requires_grad=False)
    added = []
    add = module._Gradients.add

    def counted(self: module._Gradients, rows: slice, by_logits: Tensor) -> None:
        add(self, rows, by_logits)
        added.append((self.x is not None, self.table is not None, self.bias is not None))

    monkeypatch.setattr(module._Gradients, "add", counted)
    with torch.set_grad_enabled(enabled):
        target_log_prob(x, table, bias, targets)
    assert set(added) == ({(True, False, True)} if enabled else set())


def test_weights_that_change_before_the_backward_pass_are_noticed() -> None:
    x, table, bias, targets = arguments()
    found = target_log_prob(x, table, bias, targets)
    with torch.no_grad():
        table += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.sum().backward()


def test_excluded_ids_have_no_probability_and_no_gradient() -> None:
    x, table, bias, targets = arguments()
    excluded = torch.zeros(VOCABULARY, dtype=torch.bool)
    excluded[3] = True
    targets[targets == 3] = 4
    masked = bias.masked_fill(excluded, -torch.inf)
    found = target_log_prob(x, table, masked, targets)
    torch.testing.assert_close(found, plain(x, table, masked, targets), atol=1e-12, rtol=0)
    by_table, by_bias = torch.autograd.grad(found.sum(), (table, bias))
    assert torch.equal(by_table[3], torch.zeros(WIDTH))
    assert by_bias[3] == 0


def test_no_rows_have_no_values_and_gradients_of_zero() -> None:
    x, table, bias, targets = arguments()
    found = target_log_prob(x[:0], table, bias, targets[:0])
    assert found.shape == (0,)
    (by_table,) = torch.autograd.grad(found.sum(), table)
    assert torch.equal(by_table, torch.zeros_like(table))


@pytest.mark.parametrize("autocast", [True, False])
def test_half_precision_is_summed_in_float32(autocast: bool) -> None:
    x, table, bias, targets = arguments(torch.float32 if autocast else torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = target_log_prob(x, table, bias, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, plain(*_double(x, table, bias), targets).float(), atol=0.1, rtol=0.02
    )
    gradients = torch.autograd.grad(found.sum(), (x, table, bias))
    exact = torch.autograd.grad(plain(*_double(x, table, bias), targets).sum(), (x, table, bias))
    for argument, one, other in zip((x, table, bias), gradients, exact, strict=True):
        assert one.dtype == argument.dtype
        torch.testing.assert_close(one, other, atol=0.1, rtol=0.05)


def _double(*tensors: Tensor) -> list[Tensor]:
    return [x.double() for x in tensors]


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_head_gives_padding_the_value_zero(norm: str) -> None:
    torch.manual_seed(0)
    head = Head(VOCABULARY, WIDTH, norm, excluded=(PAD, 4)).double()
    x, table, _, targets = arguments()
    ids = torch.where(targets == 4, 5, targets).view(1, ROWS).clone()
    ids[0, -3:] = PAD
    found = head.target_log_prob(x[None], table, ids)
    logits = head(x[None], table)
    expected = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    real = ids != PAD
    torch.testing.assert_close(found[real], expected[real], atol=1e-12, rtol=0)
    assert torch.equal(found[~real], torch.zeros(int((~real).sum())))
