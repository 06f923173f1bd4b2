"""A layer divided by its operator norm has norm 1 in every pass and after every update."""

import copy

import pytest
import torch
from torch import nn

from gan import spectral_normalize
from gan.networks.registry import build
from gan.normalization.operator_norms import operator_norm
from gan.normalization.spectral import input_shapes
from univae.errors import InputError

SHAPE = (1, 8, 8)


def critic_of(width: int = 8) -> nn.Module:
    return build({"network": "ConvCritic", "shape": SHAPE, "width": width})


def norms(critic: nn.Module, shapes: dict[nn.Module, tuple[int, ...]]) -> list[float]:
    """Return the norms of the weights that a pass in the critic's mode uses, without a pass."""
    kept = copy.deepcopy(critic.state_dict())
    values = []
    for module in critic.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            values.append(operator_norm(module, shapes.get(module, ())))
    critic.load_state_dict(kept)
    return values


@pytest.mark.parametrize(
    ("learning_rate", "dtype"),
    [
        (1e-3, torch.float32),
        pytest.param(1e-3, torch.float64, marks=pytest.mark.slow),
        pytest.param(2e-4, torch.float32, marks=pytest.mark.slow),
        pytest.param(2e-4, torch.float64, marks=pytest.mark.slow),
    ],
)
def test_the_norm_is_one_during_training_and_between_updates(
    learning_rate: float, dtype: torch.dtype
) -> None:
    critic = critic_of().to(dtype)
    x = torch.randn(16, *SHAPE, dtype=dtype)
    spectral_normalize(critic, exact_on=x)
    shapes = input_shapes(critic, x)
    optimizer = torch.optim.Adam(critic.parameters(), learning_rate, betas=(0.0, 0.9))
    assert norms(critic, shapes) == pytest.approx([1, 1, 1], abs=1e-3)
    for _ in range(8):
        difference = critic(x).mean() - critic(torch.randn_like(x).tanh()).mean()
        optimizer.zero_grad()
        difference.backward()
        optimizer.step()
        for training in (True, False):
            assert norms(critic.train(training), shapes) == pytest.approx([1, 1, 1], abs=1e-3)
        critic.train()


def test_the_norms_of_linear_layers_are_one_too_and_the_usual_ones_lag() -> None:
    for exact in (True, False):
        critic = build({"network": "MLPCritic", "shape": (8,), "hidden": (64, 64)})
        spectral_normalize(critic, exact_on=torch.zeros(2, 8) if exact else None)
        optimizer = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.0, 0.9))
        largest = 0.0
        for _ in range(25):
            x = torch.randn(64, 8)
            difference = critic(x).mean() - critic(x.tanh() + 0.3).mean()
            optimizer.zero_grad()
            difference.backward()
            optimizer.step()
            for value in norms(critic.eval(), {}):
                largest = max(largest, abs(value - 1))
            critic.train()
        assert (largest < 1e-3) == exact
        assert largest < 1e-3 or largest > 0.02


def test_the_state_of_an_exact_linear_layer_is_that_of_the_usual_one() -> None:
    exact = spectral_normalize(nn.Sequential(nn.Linear(6, 4)), exact_on=torch.zeros(2, 6))
    usual = spectral_normalize(nn.Sequential(nn.Linear(6, 4)))
    shapes = [
        {name: x.shape for name, x in critic.state_dict().items()} for critic in (exact, usual)
    ]
    assert shapes[0] == shapes[1]
    exact.load_state_dict(usual.state_dict())
    assert operator_norm(exact[0], (6,)) == pytest.approx(1, abs=1e-6)


def test_a_large_jump_of_the_weights_is_followed_at_once() -> None:
    conv = nn.Conv2d(2, 6, 3, padding=1)
    spectral_normalize(nn.Sequential(conv), exact_on=torch.zeros(2, 2, 8, 8))
    for _ in range(10):
        with torch.no_grad():
            conv.parametrizations.weight.original.normal_()
        assert operator_norm(conv, (2, 8, 8)) == pytest.approx(1, abs=1e-3)


def test_evaluation_keeps_the_state_and_its_result() -> None:
    critic = spectral_normalize(critic_of(), exact_on=torch.zeros(2, *SHAPE)).eval()
    x = torch.randn(2, *SHAPE)
    before = copy.deepcopy(critic.state_dict())
    assert torch.equal(critic(x), critic(x))
    for name, value in critic.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_norm_is_computed_in_float32_under_autocast() -> None:
    conv = nn.Conv2d(2, 6, 3, padding=1).float()
    spectral_normalize(nn.Sequential(conv), exact_on=torch.zeros(2, 2, 8, 8).float())
    with torch.autocast("cpu", torch.bfloat16):
        weight = conv.weight
    plain = nn.Conv2d(2, 6, 3, padding=1)
    plain.weight = nn.Parameter(weight.double())
    assert weight.dtype == torch.float32
    assert operator_norm(plain, (2, 8, 8)) == pytest.approx(1, abs=1e-3)


def test_a_weight_that_is_not_finite_reaches_the_loss() -> None:
    conv = nn.Conv2d(2, 6, 3, padding=1)
    critic = spectral_normalize(nn.Sequential(conv), exact_on=torch.zeros(2, 2, 8, 8))
    with torch.no_grad():
        conv.parametrizations.weight.original[0, 0, 0, 0] = torch.nan
    assert critic(torch.ones(1, 2, 8, 8)).isnan().any()


def test_a_convolution_on_images_of_two_sizes_has_no_exact_norm() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1)
    critic = nn.Sequential(conv, nn.AvgPool2d(2), conv)
    with pytest.raises(InputError, match=r"images of one size; got \(1, 8, 8\) and \(1, 4, 4\)"):
        spectral_normalize(critic, exact_on=torch.zeros(2, *SHAPE))
