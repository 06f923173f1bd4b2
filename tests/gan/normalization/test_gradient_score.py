"""Every row of NORMALIZATIONS and SPECTRAL_NORMS: one Score, exact in what each player needs."""

import pytest
import torch
from torch import Tensor, nn

from gan.networks.registry import NETWORKS
from gan.normalization.derivatives import differentiate, norms
from gan.normalization.operator_norms import operator_norm
from gan.normalization.rules import NORMALIZATIONS, GradientNorm
from gan.normalization.score import Score
from gan.normalization.spectral import SPECTRAL_NORMS, is_spectral
from univae.errors import InputError

OPTIONS = {
    "mlp": {"hidden": (8, 8)},
    "conv": {"width": 4},
    "resnet": {"width": 4},
    "attention": {"width": 8, "heads": 2, "layers": 1},
}
SHAPE = (1, 8, 8)


def critic_of(network: str) -> nn.Module:
    return NETWORKS[network].critic(SHAPE, **OPTIONS[network])


def by_hand(name: str, f: Tensor, n: Tensor, eps: float, K: float) -> Tensor:
    formulas = {"none": f, "gn": K * f / (n + f.abs()), "gran": K * f * n / (n**2 + eps)}
    assert formulas.keys() == NORMALIZATIONS.keys()
    return formulas[name]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_score_is_its_formula_and_exact_for_both_players(name: str, network: str) -> None:
    critic = critic_of(network)
    score = Score(critic, GradientNorm.of(name, 0.3, 2.0))
    x = torch.randn(5, *SHAPE, requires_grad=True)
    f, g = differentiate(critic, x)
    expected = by_hand(name, f, norms(g), 0.3, 2.0)
    torch.testing.assert_close(score.value(x), expected)
    weights = list(critic.parameters())
    of_weights = torch.autograd.grad(expected.tanh().sum(), weights, retain_graph=True)
    of_x = torch.autograd.grad(expected.tanh().sum(), x)

    for_critic = score.for_critic(x).score
    torch.testing.assert_close(for_critic, expected)
    gradients = torch.autograd.grad(for_critic.tanh().sum(), weights, allow_unused=True)
    for gradient, exact in zip(gradients, of_weights, strict=True):
        exact = exact if gradient is not None else torch.zeros(())
        gradient = gradient if gradient is not None else torch.zeros(())
        torch.testing.assert_close(gradient, exact, rtol=1e-8, atol=1e-10)

    for_generator = score.for_generator(x)
    torch.testing.assert_close(for_generator, expected)
    torch.testing.assert_close(torch.autograd.grad(for_generator.tanh().sum(), x), of_x)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_the_norms_of_a_score_are_those_of_its_own_gradient(name: str) -> None:
    critic = critic_of("conv")
    score = Score(critic, GradientNorm.of(name, 0.3, 2.0))
    x = torch.randn(5, *SHAPE)
    _, gradient = differentiate(score, x)
    scored = score.with_norms(x)
    torch.testing.assert_close(scored.score_norms, norms(gradient))
    torch.testing.assert_close(scored.score, score.value(x))
    smooth = Score(critic_of("attention"), GradientNorm.of(name, 0.3, 2.0)).with_norms(x)
    assert (smooth.score_norms is None) == NORMALIZATIONS[name].uses_gradient


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_row_ignores_the_scale_of_the_critic_exactly_where_it_says_so(name: str) -> None:
    critic = critic_of("mlp")
    score = Score(critic, GradientNorm.of(name, 0.3, 2.0))
    x = torch.randn(5, *SHAPE)
    before = score.value(x)
    with torch.no_grad():
        critic.head.weight.mul_(7)
        critic.head.bias.mul_(7)
    assert torch.allclose(score.value(x), before) == NORMALIZATIONS[name].ignores_scale


def test_a_value_without_gradients_has_no_graph() -> None:
    score = Score(critic_of("mlp"), GradientNorm())
    with torch.no_grad():
        assert not score.value(torch.randn(2, *SHAPE)).requires_grad
        assert not score.for_critic(torch.randn(2, *SHAPE)).score.requires_grad


def test_an_unknown_row_is_refused(unchecked: None) -> None:
    with pytest.raises(InputError, match="normalization must be one of none, gn, gran; got 'wn'"):
        GradientNorm.of("wn", 0.1, 1.0)


@pytest.mark.parametrize("name", SPECTRAL_NORMS)
def test_a_spectral_norm_bounds_what_its_row_says(name: str) -> None:
    row = SPECTRAL_NORMS[name]
    critic = row.apply(critic_of("conv"), SHAPE)
    assert is_spectral(critic) == row.normalizes
    x = torch.randn(2, *SHAPE)
    for _ in range(60):
        critic(x)
    convolution = critic.eval().layers[0]
    norm = operator_norm(convolution, SHAPE)
    reshaped = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2).item()
    assert (abs(norm - 1) < 1e-2) == row.exact
    assert (abs(reshaped - 1) < 1e-2) == (row.normalizes and not row.exact)
