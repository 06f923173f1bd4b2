"""The adaptive softmax is one distribution, whichever of its computations is used."""

import math

import pytest
import torch
from torch import Tensor

from univae.attention.adaptive_head import AdaptiveHead
from univae.attention.transformer import initialise
from univae.errors import InputError
from univae.text.special import END, PAD, START

VOCABULARY = 300
BOUNDS = [19, 47, 119, 300]  # by hand: 300 / 16 times 1, 2.52, 6.35 and 16
WIDTH = 8


@pytest.fixture
def head() -> AdaptiveHead:
    head = AdaptiveHead(VOCABULARY, WIDTH, excluded=(PAD, START))
    for p in head.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return head


@pytest.fixture
def table() -> Tensor:
    return torch.randn(VOCABULARY, WIDTH, requires_grad=True)


def by_definition(head: AdaptiveHead, table: Tensor, x: Tensor, token: int) -> Tensor:
    """Return the log-probability of a token after the row x, by the formula."""
    x = head.transform(x)
    first = [x @ table[v] + head.bias[v] for v in range(END, BOUNDS[0])]
    classes = head.classes(x)
    normaliser = torch.stack([*first, *classes]).logsumexp(0)
    if token < BOUNDS[0]:
        return first[token - END] - normaliser
    i = sum(token >= bound for bound in BOUNDS[:-1]) - 1
    members = range(BOUNDS[i], BOUNDS[i + 1])
    within = torch.stack([x @ table[v] + head.bias[v] for v in members])
    return classes[i] - normaliser + within[token - BOUNDS[i]] - within.logsumexp(0)


@pytest.mark.parametrize("token", [END, 18, 19, 46, 47, 118, 119, 299])
def test_a_token_has_the_probability_of_its_class_times_its_own(
    token: int, head: AdaptiveHead, table: Tensor
) -> None:
    x = torch.randn(WIDTH)
    expected = by_definition(head, table, x, token)
    torch.testing.assert_close(head(x, table)[token], expected, atol=1e-12, rtol=0)


def test_it_is_normalised_over_the_tokens_that_are_not_excluded(
    head: AdaptiveHead, table: Tensor
) -> None:
    log_probs = head(torch.randn(5, 2, WIDTH), table)
    assert log_probs.shape == (5, 2, VOCABULARY)
    torch.testing.assert_close(log_probs.logsumexp(-1), torch.zeros(5, 2), atol=1e-12, rtol=0)
    assert (log_probs[..., [PAD, START]] == -math.inf).all()
    assert torch.isfinite(log_probs[..., END:]).all()


def test_targets_have_the_values_and_gradients_of_all_log_probabilities(
    head: AdaptiveHead, table: Tensor
) -> None:
    x = torch.randn(4, 30, WIDTH, requires_grad=True)
    targets = torch.randint(END, VOCABULARY, (4, 30))
    targets[1, 7:] = PAD
    expected = head(x, table).gather(-1, targets[..., None]).squeeze(-1)
    expected = expected.masked_fill(targets == PAD, 0)
    found = head.target_log_prob(x, table, targets)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)

    arguments = (x, table, *head.parameters())
    ours = torch.autograd.grad(found.sum(), arguments)
    for one, other in zip(ours, torch.autograd.grad(expected.sum(), arguments), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("token", [PAD, END, 19])
def test_classes_that_no_target_is_in_have_gradients_of_zero(
    token: int, head: AdaptiveHead, table: Tensor
) -> None:
    targets = torch.full((3,), token)
    found = head.target_log_prob(torch.randn(3, WIDTH), table, targets)
    (gradient,) = torch.autograd.grad(found.sum(), (table,))
    assert (gradient[BOUNDS[1] :] == 0).all()
    assert bool(gradient.any()) == (token != PAD)


def test_a_new_head_gives_all_tokens_about_the_same_probability() -> None:
    head = AdaptiveHead(VOCABULARY, WIDTH, excluded=(PAD, START))
    initialise(head)
    head.initialise()
    probabilities = head(torch.randn(1000, WIDTH), torch.zeros(VOCABULARY, WIDTH)).exp().mean(0)
    expected = torch.full((VOCABULARY - END,), 1 / (VOCABULARY - END))
    torch.testing.assert_close(probabilities[END:], expected, atol=0, rtol=0.02)


def test_a_small_vocabulary_is_refused() -> None:
    with pytest.raises(InputError, match="needs at least 256 token ids; got 255; use softmax=full"):
        AdaptiveHead(255, WIDTH)


def test_log_probabilities_of_half_precision_are_float32(head: AdaptiveHead, table: Tensor) -> None:
    half = head.bfloat16()
    x = torch.randn(20, WIDTH).bfloat16()
    log_probs = half(x, table.bfloat16())
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.logsumexp(-1), torch.zeros(20).float(), atol=1e-5, rtol=0)
    targets = torch.randint(END, VOCABULARY, (20,))
    found = half.target_log_prob(x, table.bfloat16(), targets)
    expected = log_probs.gather(1, targets[:, None]).squeeze(1)
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)  # of bfloat16 logits
