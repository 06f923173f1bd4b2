"""The parameters of a posterior alone: prior and likelihood do not read them, the posterior does."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import density
from density.calibration import inference_parameters
from univae.errors import InputError
from univae.vae.model import UniVAE, UniVAEConfig

TEXTS = torch.tensor([[5, 6, 2], [7, 2, 0]])
SHAPE: dict[str, Any] = {
    "vocab_size": 9,
    "width": 8,
    "heads": 2,
    "layers": 2,
    "latent_layers": 2,
    "latent_width": 3,
}


@pytest.mark.parametrize(
    "options",
    [{}, {"bn_gamma": 0.7}, {"latent": "vmf"}, {"prior": "learned"}],
    ids=["gaussian", "batch-normalised", "vmf", "learned prior"],
)
def test_a_univae_has_the_heads_of_its_posterior(options: dict[str, Any]) -> None:
    model = UniVAE(UniVAEConfig(**SHAPE, **options)).eval()
    own = inference_parameters(model, TEXTS)
    expected = {name for name, _ in model.named_parameters() if name.startswith("infer.")}
    assert set(own) == expected
    assert all(parameter is model.get_parameter(name) for name, parameter in own.items())


class Shared(nn.Module):
    """A model whose only parameter is read by posterior and likelihood."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), torch.ones(1)), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(self.weight * x, torch.ones_like(x)), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(self.weight * z, torch.ones_like(z)), 1)


def test_a_posterior_without_parameters_of_its_own_is_refused() -> None:
    with pytest.raises(InputError, match="read every parameter of the posterior"):
        inference_parameters(Shared(), torch.ones(2, 1))


class Linear(nn.Module):
    """A linear-Gaussian model x = w z + s e with a posterior of free mean and scale."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0]))
        self.slope = nn.Parameter(torch.tensor([0.2]))
        self.log_scale = nn.Parameter(torch.tensor([0.5]))

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), torch.ones(1)), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(self.slope * x, self.log_scale.exp().expand_as(x)), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(self.w * z, torch.full_like(z, 0.5)), 1)


def test_fitting_them_alone_reaches_the_posterior_and_leaves_the_evidence() -> None:
    """The posterior of x = z + e / 2 is N(0.8 x, 0.2), and the bound is then log p(x)."""
    model = Linear()
    x = torch.randn(64, 1) * 1.25**0.5
    own = inference_parameters(model, x)
    assert set(own) == {"slope", "log_scale"}

    evidence = Normal(0.0, 1.25**0.5).log_prob(x).sum(-1)
    optimizer = torch.optim.Adam(own.values(), lr=0.05)
    for _ in range(300):
        loss = -density.stl(model, x, 4).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert model.slope.item() == pytest.approx(0.8, abs=1e-3)
    assert model.log_scale.exp().item() == pytest.approx(0.2**0.5, abs=1e-3)
    torch.testing.assert_close(
        density.elbo(model, x, 4).detach(), evidence.double(), atol=1e-3, rtol=0
    )
