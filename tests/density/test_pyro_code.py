"""Pyro pairs compress where their programs are modules with Gaussian latents; others say why not."""

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

import density
from density import from_pyro
from univae.errors import InputError


class Pair(nn.Module):
    """Two latents and a row of six whole numbers; ``latent`` is how the model draws z."""

    def __init__(self, levels: int = 2, latent: str = "normal") -> None:
        super().__init__()
        self.levels = levels
        self.latent = latent
        self.encoder = nn.Linear(6, 4)
        self.decoder = nn.Linear(2, 6 * levels)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            zeros = torch.zeros(1) if self.latent == "constants" else x.new_zeros(1)
            a = pyro.sample("a", dist.Normal(zeros, 1.0).to_event(1))
            b = pyro.sample("b", self.prior_of_b(a, x))
            table = self.decoder(torch.cat((a, b), -1)).unflatten(-1, (6, self.levels))
            pyro.sample("x", self.pixels(table), obs=x)

    def prior_of_b(self, a: Tensor, x: Tensor) -> Any:
        if self.latent == "chain":
            return dist.Normal(a, 1.0).to_event(1)
        if self.latent == "data":
            return dist.Normal(x[:, :1] + torch.arange(len(x))[:, None], 1.0).to_event(1)
        if self.latent == "constants":
            return dist.Normal(torch.zeros(len(x), 1), 2.0).to_event(1)
        if self.latent == "laplace":
            return dist.Laplace(x.new_zeros(1), 1.0).to_event(1)
        return dist.Normal(x.new_zeros(1), 2.0).to_event(1)

    def pixels(self, table: Tensor) -> Any:
        if self.levels == 1:
            return dist.Normal(table[..., 0], 1.0).to_event(1)
        if self.levels == 2:
            return dist.Bernoulli(logits=table[..., 0]).to_event(1)
        return dist.Categorical(logits=table).to_event(1)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            mean, log_scale = self.encoder(x).chunk(2, -1)
            for i, name in enumerate("ab"):
                part = slice(i, i + 1)
                scale = log_scale[..., part].exp()
                pyro.sample(name, dist.Normal(mean[..., part], scale).to_event(1))


@pytest.mark.parametrize("levels", [2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_a_pair_of_whole_numbers_round_trips(levels: int, dtype: torch.dtype) -> None:
    pair = Pair(levels)
    x = torch.randint(levels, (25, 6)).to(dtype)
    model = from_pyro(pair.model, pair.guide)
    content = density.compress(model, x)
    decoded = density.decompress(from_pyro(pair.model, pair.guide), content)
    assert torch.equal(torch.as_tensor(decoded), x)
    with pytest.raises(InputError, match=r"the model must be .*, the writer's"):
        density.decompress(from_pyro(Pair(levels).model, Pair(levels).guide), content)


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_constants_of_the_default_dtype_have_that_of_the_weights(default: torch.dtype) -> None:
    torch.set_default_dtype(torch.float32)
    pair = Pair(latent="constants")
    torch.set_default_dtype(default)
    x = torch.randint(2, (12, 6))
    model = from_pyro(pair.model, pair.guide)
    decoded = density.decompress(model, density.compress(model, x))
    assert torch.equal(torch.as_tensor(decoded), x)
    assert torch.get_default_dtype() == default


def test_an_array_keeps_its_dtype_and_the_generator_its_state() -> None:
    pair = Pair()
    x = np.random.default_rng(0).integers(2, size=(9, 6)).astype(np.uint8)
    model = from_pyro(pair.model, pair.guide)
    state = torch.get_rng_state()
    content = density.compress(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    decoded = density.decompress(model, content)
    assert isinstance(decoded, np.ndarray)
    assert decoded.dtype == x.dtype
    np.testing.assert_array_equal(decoded, x)


def test_the_codable_form_has_the_densities_of_the_pair() -> None:
    pair = Pair(3)
    x = torch.randint(3, (4, 6)).double()
    model = from_pyro(pair.model, pair.guide)
    codable = model.codable((6,))
    z = torch.randn(7, 4, 2)
    q = model.posterior(x)
    torch.testing.assert_close(codable.posterior(x).log_prob(z), q.log_prob(z))
    torch.testing.assert_close(codable.prior().log_prob(z), model.prior().log_prob(z))
    likelihood = model.likelihood(z).log_prob(x)
    torch.testing.assert_close(codable.likelihood(z).log_prob(x), likelihood)


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        ("chain", "'b' of the model depends on another latent"),
        ("data", "'b' of the model depends on the data"),
        ("laplace", "'b' of the model must be a Normal.*got Laplace"),
    ],
)
def test_a_latent_that_no_table_codes_is_named(latent: str, message: str) -> None:
    pair = Pair(2, latent)
    with pytest.raises(InputError, match=message) as error:
        density.compress(from_pyro(pair.model, pair.guide), torch.zeros(3, 6))
    assert "prior(), posterior(x) and likelihood(z)" in str(error.value)


def test_a_density_has_no_table() -> None:
    pair = Pair(1)
    with pytest.raises(InputError, match=r"'x' must be Bernoulli or Categorical.*got Normal"):
        density.compress(from_pyro(pair.model, pair.guide), torch.zeros(3, 6))


def test_a_function_and_an_automatic_guide_say_what_to_give() -> None:
    pair = Pair()
    with pytest.raises(InputError, match="the model must be a torch module or a method of one"):
        density.compress(from_pyro(lambda x: pair.model(x), pair.guide), torch.zeros(3, 6))
    guide = AutoNormal(pair.model)
    with pytest.raises(InputError, match="AutoNormal holds latents of its training data"):
        density.compress(from_pyro(pair.model, guide), torch.zeros(3, 6))
