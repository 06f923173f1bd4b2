"""What a class declares of its forward holds for that forward alone, not for what replaces it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gan import audit
from gan.networks.mlp import MLPCritic
from gan.networks.registry import build
from gan.normalization.claims import declares
from gan.normalization.gradient import (
    normalize_for_critic,
    normalize_for_generator,
    normalize_gradient,
)
from gan.normalization.linear_regions import has_regions
from gan.normalization.module_types import chain, is_piecewise_linear, rescale
from univae.errors import InputError


class CubedForward(MLPCritic):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(x, labels) ** 3


class Cube(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x**3


class CubedHead(MLPCritic):
    """Replaces what the inherited forward calls."""

    @property
    def head(self) -> nn.Module:
        return nn.Sequential(self.layers[-1], nn.Tanh())


class CubedLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 3


class CubedNorm(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 3


class CubedSequential(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 3


class Claim(nn.Module):
    """A mixin that has no forward of its own to declare anything of."""

    piecewise_linear = True
    affine_forward = True
    sequential = True


class Mixed(Claim, CubedForward):
    pass


def layers() -> list[nn.Module]:
    return [nn.Linear(5, 8), nn.LeakyReLU(0.1), nn.Linear(8, 1)]


def with_hook() -> nn.Module:
    critic = nn.Sequential(*layers())
    critic[0].register_forward_hook(lambda module, inputs, output: output**3)
    return critic


def with_forward() -> nn.Module:
    critic = nn.Sequential(*layers())
    activation = critic[1]
    activation.forward = lambda x: x**3
    return critic


def with_layer(index: int, layer: nn.Module) -> nn.Module:
    modules = layers()
    modules.insert(index, layer)
    return nn.Sequential(*modules)


REPLACED: dict[str, Callable[[], nn.Module]] = {
    "forward": lambda: CubedForward((5,), hidden=(8,)),
    "head": lambda: CubedHead((5,), hidden=(8,)),
    "mixin": lambda: Mixed((5,), hidden=(8,)),
    "linear": lambda: with_layer(2, CubedLinear(8, 8)),
    "norm": lambda: with_layer(1, CubedNorm(8).eval()),
    "sequential": lambda: CubedSequential(*layers()),
    "nested": lambda: nn.Sequential(CubedSequential(*layers()[:2]), nn.Linear(8, 1)),
    "hook": with_hook,
    "instance": with_forward,
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_replaces_a_forward_inherits_no_claim(name: str) -> None:
    critic = REPLACED[name]()
    assert not is_piecewise_linear(critic)
    assert not has_regions(critic)
    assert chain(critic) is None

    x = torch.randn(6, 5)
    facts = audit(critic, x, x + 1)
    assert facts.certificate is None
    assert facts.uncertified
    assert f"No Lipschitz constant is proven: {facts.uncertified}." in facts.verdict
    assert "of which the critic certifies nothing" in facts.verdict


@pytest.mark.parametrize("name", REPLACED)
def test_scores_of_a_replaced_forward_are_exact_for_both_players(name: str) -> None:
    critic = REPLACED[name]()
    x = torch.randn(6, 5, requires_grad=True)
    exact = normalize_gradient(critic, x)
    torch.testing.assert_close(
        torch.autograd.grad(normalize_for_generator(critic, x).sum(), x),
        torch.autograd.grad(exact.sum(), x, retain_graph=True),
    )
    weights = [weight for weight in critic.parameters() if weight.requires_grad]
    fast = torch.autograd.grad(normalize_for_critic(critic, x)[0].sum(), weights, allow_unused=True)
    double = torch.autograd.grad(exact.sum(), weights, allow_unused=True)
    for gradient, expected in zip(fast, double, strict=True):
        if gradient is not None and expected is not None:
            torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)


def test_a_subclass_keeps_a_claim_where_it_replaces_nothing_and_can_repeat_or_revoke_it() -> None:
    class Wide(MLPCritic):
        def __init__(self) -> None:
            super().__init__((5,), hidden=(32,))

    class Doubled(MLPCritic):
        piecewise_linear = True

        def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
            return 2 * super().forward(x, labels)

    class Revoked(Wide):
        piecewise_linear = False

    assert has_regions(Wide())
    assert chain(Wide()) is not None
    assert is_piecewise_linear(Doubled((5,)))
    assert chain(Doubled((5,))) is None
    assert not declares(Revoked(), "piecewise_linear")
    assert not is_piecewise_linear(Revoked())
    assert declares(Wide(), "affine_forward")


@pytest.mark.parametrize("family", ["MLP", "Conv", "ResNet", "Attention"])
def test_rescaling_a_conditional_critic_keeps_its_normalised_scores(family: str) -> None:
    options = {"width": 8, "heads": 2} if family == "Attention" else {}
    critic = build({"network": f"{family}Critic", "shape": (1, 8, 8), "classes": 3, **options})
    nn.init.normal_(critic.embed.weight)
    x = torch.randn(4, 1, 8, 8)
    labels = torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        critic.head.weight.mul_(1e3)
    before = normalize_gradient(critic, x, labels=labels)
    rescale(critic)
    torch.testing.assert_close(normalize_gradient(critic, x, labels=labels), before)
    fan_in = critic.head.in_features
    assert critic.head.weight.square().mean().item() == pytest.approx(2 / fan_in)


def test_an_embedding_of_another_width_is_no_projection_and_stays() -> None:
    class Prefixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(3, 2)
            self.body = nn.Linear(7, 8)
            self.head = nn.Linear(8, 1)

        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            h = self.body(torch.cat((x, self.embed(labels)), 1))
            return self.head(h.tanh())

    critic = Prefixed()
    x = torch.randn(4, 5)
    labels = torch.tensor([0, 1, 2, 1])
    before = normalize_gradient(critic, x, labels=labels)
    rescale(critic)
    torch.testing.assert_close(normalize_gradient(critic, x, labels=labels), before)


def test_a_chain_that_calls_a_layer_twice_is_not_rescaled() -> None:
    shared = nn.Linear(5, 5)
    critic = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(5, 1))
    assert chain(critic) == [shared, shared, critic[3]]
    weight = shared.weight.clone()
    with pytest.raises(InputError, match="rescale: each layer must have weights of its own"):
        rescale(critic)
    assert torch.equal(shared.weight, weight)
    with pytest.raises(InputError, match="linear layers and ReLUs without hooks"):
        rescale(with_hook())
