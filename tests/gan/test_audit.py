"""The audit's facts against closed forms: bounds, jumps, and what a certificate proves."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan import audit, spectral_normalize
from gan.metrics import exact_wasserstein
from gan.networks.registry import build


def dense(activation: nn.Module, width: int = 24) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, width), activation, nn.Linear(width, width), activation, nn.Linear(width, 1)
    )


def test_a_linear_critic_has_one_slope_and_its_certificate_is_tight() -> None:
    critic = nn.Sequential(nn.Linear(3, 1))
    norm = critic[0].weight.norm().item()
    x = torch.randn(50, 3)
    shift = 2 * critic[0].weight.detach() / norm
    facts = audit(critic, x, x + shift)
    assert facts.gradient_norms == pytest.approx((norm,) * 4)
    assert facts.certificate == pytest.approx(norm)
    assert all(0.9 * norm < s.within <= norm * (1 + 1e-9) and s.crossing == 0 for s in facts.slopes)
    # a shift along the weight: the bound is attained
    assert facts.wasserstein == pytest.approx((2, 2))
    assert "prove a Lipschitz constant" in facts.verdict
    assert "W1 distance is 2, of which the critic certifies 2" in facts.verdict


def test_gn_is_bounded_pointwise_and_within_cells_and_jumps_across_them() -> None:
    critic = dense(nn.ReLU())
    x = torch.randn(800, 2)
    facts = audit(critic, x, normalization="gn")
    assert facts.piecewise_linear
    assert facts.own_sample
    assert facts.gradient_norms[-1] <= 1
    assert facts.above_one == 0
    assert facts.largest_score < 1
    assert all(s.within is None or s.within <= 1 + 1e-9 for s in facts.slopes)
    assert facts.certificate is None
    crossing = [s.crossing for s in facts.slopes]
    assert crossing == sorted(crossing)
    assert max(s.across for s in facts.slopes if s.across is not None) > 1
    assert "It is not Lipschitz" in facts.verdict
    assert "estimate no Wasserstein distance" in facts.verdict


def test_the_counter_example_jumps_by_a_half() -> None:
    class Kink(nn.Module):
        piecewise_linear = True
        affine_forward = True

        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return 1 + self.relu(x).squeeze(1)

    x = torch.linspace(-1e-4, 1e-4, 401)[:, None]
    facts = audit(Kink(), x, normalization="gn", lengths=[0.1])
    (slopes,) = facts.slopes
    assert slopes.within == pytest.approx(0.25, rel=1e-2)  # (n / (n + |f|))^2 of n = f = 1
    assert slopes.across > 0.4 / 1e-4
    assert 0 < slopes.crossing < 0.5


def test_a_smooth_critic_under_gn_is_told_to_have_no_bound() -> None:
    torch.manual_seed(1)
    critic = dense(nn.Tanh())
    with torch.no_grad():
        critic[0].weight.mul_(5)
    facts = audit(critic, torch.randn(500, 2), normalization="gn")
    assert not facts.piecewise_linear
    assert facts.above_one > 0
    assert all(s.within is None and s.crossing is None for s in facts.slopes)
    assert "bounds nothing" in facts.verdict


class InPlace(nn.Module):
    """Declares a sequence, and does more than its modules between their calls."""

    sequential = True

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers[0](x)
        h.mul_(3)
        return self.layers[2](self.layers[1](h))


class Repeated(InPlace):
    """Declares a sequence, and calls one of its layers twice."""

    sequential = True

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](self.layers[1](self.layers[0](self.layers[0](x))))


class Outside(InPlace):
    """Declares a sequence, and scales its result."""

    sequential = True

    def forward(self, x: Tensor) -> Tensor:
        return 3 * self.layers(x)


def summed(size: int) -> list[nn.Module]:
    """Return a linear layer of norm 1 that attains the norm of a map of ones."""
    layer = nn.Linear(size, 1)
    nn.init.constant_(layer.weight, 1 / math.sqrt(size))
    return [nn.Flatten(), layer]


def convolution(kind: type, *, constant: float, **options: Any) -> nn.Module:
    layer = kind(1, 1, 3, bias=False, **options)
    nn.init.constant_(layer.weight, constant)
    return layer


def twice() -> list[nn.Module]:
    layer = nn.Linear(4, 4, bias=False)
    nn.init.eye_(layer.weight).data.mul_(2)
    return [layer, layer]


@pytest.mark.parametrize(
    ("body", "shape", "size"),
    [
        (lambda: [nn.Upsample(scale_factor=4)], (1, 4, 4), 256),
        (lambda: [nn.ReflectionPad2d(3)], (1, 4, 4), 100),
        (lambda: [nn.ReplicationPad2d(3)], (1, 4, 4), 100),
        (lambda: [nn.AdaptiveAvgPool2d(16)], (1, 4, 4), 256),
        (lambda: [nn.MaxPool2d(3, 1, 1)], (1, 4, 4), 16),
        (lambda: [convolution(nn.Conv1d, constant=5, padding=1)], (1, 8), 8),
        (lambda: [convolution(nn.Conv3d, constant=1, padding=1)], (1, 4, 4, 4), 64),
        (
            lambda: [convolution(nn.Conv2d, constant=1, padding=1, padding_mode="circular")],
            (1, 4, 4),
            16,
        ),
        (lambda: [convolution(nn.Conv2d, constant=1, padding="same")], (1, 4, 4), 16),
        (twice, (4,), 4),
    ],
)
def test_no_certified_distance_exceeds_the_exact_one(
    body: Callable[[], list[nn.Module]], shape: tuple[int, ...], size: int
) -> None:
    critic = nn.Sequential(*body(), *summed(size))
    x = torch.randn(12, *shape)
    for y in (x + 1, x - 1, torch.randn(12, *shape)):
        facts = audit(critic, x, y)
        assert facts.certificate >= facts.gradient_norms[-1]
        lower_bound, exact = facts.wasserstein
        assert 0 <= lower_bound <= exact
    assert facts.uncertified == ""


def test_a_layer_that_is_called_twice_counts_twice() -> None:
    facts = audit(nn.Sequential(*twice(), *summed(4)), torch.randn(3, 4))
    assert [layer.name for layer in facts.layers] == ["0", "0", "3"]
    assert facts.certificate == pytest.approx(4)


@pytest.mark.parametrize("kind", [InPlace, Repeated, Outside])
def test_a_forward_that_contradicts_its_declaration_has_no_certificate(
    kind: type[nn.Module],
) -> None:
    facts = audit(kind(), torch.randn(3, 4))
    assert facts.certificate is None
    assert facts.uncertified == "the critic's forward is not the sequence that it declares"


@pytest.mark.parametrize(
    ("critic", "reason"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 1), nn.SiLU()), "SiLU has no known Lipschitz constant"),
        (
            lambda: nn.Sequential(
                nn.Unflatten(1, (1, 2, 1)),
                nn.Upsample(scale_factor=2, mode="bicubic"),
                *summed(8),
            ),
            "Upsample of mode bicubic has no known Lipschitz constant",
        ),
        (lambda: lambda x: x.sum(1), "the critic is no module"),
    ],
)
def test_a_refused_certificate_has_its_reason(critic: Callable[[], Any], reason: str) -> None:
    facts = audit(critic(), torch.randn(3, 2))
    assert facts.certificate is None
    assert facts.uncertified == reason
    assert f"No Lipschitz constant is proven: {reason}." in facts.verdict


def test_rounded_scores_certify_no_more_than_exact_ones() -> None:
    critic = nn.Sequential(nn.Upsample(scale_factor=4), *summed(256)).float()
    with torch.no_grad():
        critic[2].bias.fill_(1e4)
    x = torch.randn(12, 1, 4, 4).float()
    lower_bound, exact = audit(critic, x, x + 1).wasserstein
    assert 0.999 * exact < lower_bound <= exact


def test_the_certificate_bounds_every_slope_and_the_bracket_holds() -> None:
    for network, shape in (
        ({"network": "MLPCritic"}, (2,)),
        ({"network": "ConvCritic", "width": 8}, (1, 8, 8)),
    ):
        critic = build({**network, "shape": shape})
        x = torch.randn(20, *shape)
        y = 1 + torch.randn(20, *shape)
        for exact in (False, True):
            if exact:
                critic = spectral_normalize(critic, exact_on=x)
                for _ in range(20):
                    critic(x[:2])
            facts = audit(critic, x, y)
            assert facts.certificate >= facts.gradient_norms[-1]
            lower, upper = facts.wasserstein
            assert 0 < lower <= upper
            assert upper == exact_wasserstein(x.flatten(1), y.flatten(1))
        assert facts.certificate == pytest.approx(1, abs=1e-2)


def test_operator_norms_of_convolutions_exceed_those_of_their_reshaped_weights() -> None:
    critic = build({"network": "ConvCritic", "shape": (1, 8, 8), "width": 8})
    facts = audit(critic, torch.randn(4, 1, 8, 8))
    *convolutions, last = facts.layers
    assert [layer.name for layer in facts.layers] == ["layers.0", "layers.2", "layers.5"]
    assert all(layer.operator > 1.02 * layer.reshaped for layer in convolutions)
    assert last.operator == pytest.approx(last.reshaped, rel=1e-4)
    assert math.prod(layer.operator for layer in facts.layers) == pytest.approx(facts.certificate)


@pytest.mark.parametrize("family", ["ResNet", "Attention"])
def test_a_critic_that_is_no_chain_gets_no_certificate(family: str) -> None:
    options: dict[str, Any] = {"width": 8} | ({"heads": 2} if family == "Attention" else {})
    critic = build(
        {"network": f"{family}Critic", "shape": (1, 8, 8), "classes": 2, **options}
    ).train()
    x = torch.randn(20, 1, 8, 8)
    labels = torch.randint(2, (20,))
    facts = audit(critic, x, labels=labels, normalization="gn")
    assert facts.certificate is None
    assert facts.uncertified == "the score is normalised by its gradient"
    assert audit(critic, x, labels=labels).uncertified == "the critic is conditional"
    assert facts.piecewise_linear == (family == "ResNet")
    if family == "ResNet":
        assert facts.gradient_norms[-1] <= 1 + 1e-9
        assert facts.slopes[0].within is None or facts.slopes[0].within <= 1 + 1e-6
    assert critic.training


def test_mixing_samples_is_noticed() -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(1) + x.std()

    facts = audit(Mixing(), torch.randn(10, 2))
    assert not facts.own_sample
    assert "other samples of its batch" in facts.verdict
