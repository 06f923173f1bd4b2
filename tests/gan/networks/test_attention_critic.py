"""An attention critic with own derivatives, against one with autograd's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gan import WGAN, Penalties, Recipe
from gan.networks import attention as networks
from gan.networks.attention import AttentionCritic, AttentionGenerator
from gan.networks.registry import build
from gan.normalization.gradient import (
    normalize_for_critic,
    normalize_for_generator,
    normalize_gradient,
)
from univae.attention import second_order

SHAPE = (2, 8, 12)
CLASSES = 3
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5}  # relative, of the norm


@pytest.fixture(autouse=True)
def _own_at_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST_SCORES", "LEAST_ACTIVATIONS", "LEAST_NORMALISED"):
        monkeypatch.setattr(second_order, name, 0)


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], object]:
    """Return a function that computes its argument by operators of PyTorch alone."""

    def run(function: Callable[[], object]) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(second_order, "has_own_derivatives", lambda *inputs: False)
            return function()

    return run


def critic(classes: int = 0) -> AttentionCritic:
    return AttentionCritic(SHAPE, width=16, heads=2, classes=classes)


def distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("method", ["gn", "gran"])
@pytest.mark.parametrize("family", ["attention", "conv"])
def test_the_gradient_in_the_weights_is_that_of_the_double_backward_pass(
    family: str, method: str, dtype: torch.dtype, composed: Callable[..., Tensor]
) -> None:
    network = critic(CLASSES)
    if family == "conv":
        options = {"shape": SHAPE, "width": 8, "classes": CLASSES}
        network = build({"network": "ConvCritic", **options})
    network = network.to(dtype)
    x = torch.randn(6, *SHAPE, dtype=dtype)
    labels = torch.randint(CLASSES, (6,))
    weights = torch.linspace(-1, 2, 6, dtype=dtype)

    def gradient(normalised: Callable[..., Tensor]) -> Tensor:
        score = normalised(network, x, method, labels=labels)
        score = score[0] if isinstance(score, tuple) else score
        return flat(torch.autograd.grad((weights * score).sum(), list(network.parameters())))

    exact = composed(lambda: gradient(normalize_gradient))
    for normalised in (normalize_gradient, normalize_for_critic):
        assert distance(gradient(normalised), exact) <= TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_gradient_in_the_rows_is_that_of_the_double_backward_pass(
    dtype: torch.dtype, composed: Callable[..., Tensor]
) -> None:
    network = critic().to(dtype).requires_grad_(requires_grad=False)
    x = torch.randn(6, *SHAPE, dtype=dtype, requires_grad=True)

    def gradient() -> Tensor:
        return torch.autograd.grad(normalize_for_generator(network, x).sum(), x)[0]

    assert distance(gradient(), composed(gradient)) <= TOLERANCES[dtype]


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(augment=("translation", "color")),
        Recipe(normalization="gran", penalties=Penalties(r1=1.0)),
        Recipe(penalties=Penalties(cr=5.0)),
        Recipe(normalization="none", loss="wasserstein", penalties=Penalties(gp=10.0)),
        Recipe(bf16=True),
    ],
)
@pytest.mark.parametrize("classes", [pytest.param(0, marks=pytest.mark.slow), CLASSES])
def test_steps_of_a_training_are_those_of_composed_operators(
    recipe: Recipe, classes: int, composed: Callable[..., Tensor]
) -> None:
    real = torch.rand(4, *SHAPE) * 2 - 1
    labels = torch.randint(CLASSES, (4,)) if classes else None

    def train() -> Tensor:
        torch.manual_seed(1)
        generator = AttentionGenerator(SHAPE, latent=4, width=16, heads=2, classes=classes)
        trainer = WGAN(generator, critic(classes), recipe)
        for _ in range(2):
            trainer.step(real, labels)
        return flat([*trainer.critic.parameters(), *trainer.generator.parameters()]).detach()

    # Adam's first steps are the signs of gradients, of which rounding can turn those near 0.
    torch.testing.assert_close(train(), composed(train), rtol=1e-5, atol=1e-7)


def test_patches_are_those_of_unfold() -> None:
    x = torch.randn(3, *SHAPE)
    unfolded = torch.nn.functional.unfold(x, 4, stride=4).mT
    assert torch.equal(networks._cut(x, 4), unfolded)
