"""Discrete sites of Pyro programs, summed over or drawn, and sites that give no density."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from torch import Tensor
from torch.distributions import Normal

import density
from density import from_pyro
from univae.errors import InputError

STATES = 3
STEPS = 4
START = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
MOVES = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]], dtype=torch.float64)
MEANS = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
RATES = torch.tensor([0.5, 2.0, 6.0], dtype=torch.float64)

Program = Callable[[Tensor], None]


@pytest.fixture(autouse=True)
def _closed() -> None:
    pyro.clear_param_store()
    pyro.enable_validation(True)


def chain(history: int, x: Tensor) -> None:
    """Draw a hidden Markov chain of ``STEPS`` states beside each datum's shift z."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        state = None
        for t in pyro.markov(range(STEPS), history=history):
            p = START if state is None else MOVES[state]
            state = pyro.sample(f"c{t}", dist.Categorical(p), infer={"enumerate": "parallel"})
            pyro.sample(f"x{t}", dist.Normal(MEANS[state] + z, 0.5), obs=x[:, t])


def shift_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.zeros(len(x)), 0.9))


def log_joint_of_every_path(z: Tensor, x: Tensor) -> Tensor:
    """Sum p(x, c | z) p(z) over all paths c, one by one."""
    paths = []
    for path in itertools.product(range(STATES), repeat=STEPS):
        log_p = Normal(0.0, 1.0).log_prob(z) + START[path[0]].log()
        for before, after in itertools.pairwise(path):
            log_p = log_p + MOVES[before, after].log()
        for t, state in enumerate(path):
            log_p = log_p + Normal(MEANS[state] + z, 0.5).log_prob(x[:, t])
        paths.append(log_p)
    return torch.stack(paths).logsumexp(0)


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("count", [1, 5])
def test_a_markov_chain_is_summed_over_all_its_paths(history: int, count: int) -> None:
    x = 2 * torch.randn(count, STEPS)
    model = from_pyro(lambda x: chain(history, x), shift_guide)
    z = model.posterior(x).sample((6,))
    log_p = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    torch.testing.assert_close(log_p, log_joint_of_every_path(z.squeeze(-1), x))
    torch.testing.assert_close(model.prior().log_prob(z), Normal(0, 1).log_prob(z.squeeze(-1)))


def test_states_that_end_at_different_sites_are_summed_each_on_its_own() -> None:
    """Two independent chains that reuse each other's axes, as siblings under ``markov``."""

    def siblings(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            for t in pyro.markov(range(STEPS)):
                c = pyro.sample(f"c{t}", dist.Categorical(START), infer={"enumerate": "parallel"})
                pyro.sample(f"x{t}", dist.Normal(MEANS[c] + z, 0.5), obs=x[:, t])

    x = torch.randn(3, STEPS)
    model = from_pyro(siblings, shift_guide)
    z = model.posterior(x).sample((2,))
    parts = START.log() + Normal(MEANS + z.unsqueeze(-1), 0.5).log_prob(x.unsqueeze(-1))
    torch.testing.assert_close(model.likelihood(z).log_prob(x), parts.logsumexp(-1).sum(-1))


def test_values_that_two_sites_contradict_by_hundreds_of_nats_keep_their_mass() -> None:
    """In float32, exp(-200) is 0: factors are added before they are exponentiated."""
    torch.set_default_dtype(torch.float32)

    def contradictory(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))
            c = pyro.sample(
                "c", dist.Categorical(torch.ones(2) / 2), infer={"enumerate": "parallel"}
            )
            mean = 20.0 * c
            pyro.sample("x0", dist.Normal(mean, 1.0), obs=x[:, 0])
            pyro.sample("x1", dist.Normal(20 - mean, 1.0), obs=x[:, 1])

    x = torch.zeros(2, 2)
    model = from_pyro(contradictory, shift_guide)
    z = model.posterior(x).sample((3,))
    expected = torch.full((3, 2), -200 - math.log(2 * math.pi))
    torch.testing.assert_close(model.likelihood(z).log_prob(x), expected)


@config_enumerate
def mixture(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        c = pyro.sample("c", dist.Categorical(START))
        z = pyro.sample("z", dist.Normal(MEANS[c], 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def mixture_evidence(x: Tensor) -> Tensor:
    parts = START.log()[:, None] + Normal(MEANS[:, None], math.sqrt(1.25)).log_prob(x)
    return parts.logsumexp(0)


def test_a_guide_that_enumerates_is_drawn_from() -> None:
    @config_enumerate
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            logits = START.log() + Normal(MEANS, math.sqrt(1.25)).log_prob(x.unsqueeze(-1))
            c = pyro.sample("c", dist.Categorical(logits=0.5 * logits))
            pyro.sample("z", dist.Normal((MEANS[c] + 4 * x) / 5, 0.5))

    x = 2 * torch.randn(6)
    model = from_pyro(mixture, guide)
    assert model.posterior(x).sample((7,)).shape == (7, 6, 2)
    estimate = density.estimate(model, x, 8000)
    error = estimate.log_likelihood - mixture_evidence(x)
    assert (error.abs() < 5 * estimate.standard_error).all()
    assert (estimate.standard_error < 0.05).all()


def z_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.8 * x, 0.6))


def test_a_prior_draw_draws_what_the_model_sums_over() -> None:
    x = 2 * torch.randn(6)
    model = from_pyro(mixture, z_guide)
    model.posterior(x)
    z = model.prior().sample((20_000,))
    assert z.shape == (20_000, 6, 1)
    mean = (START * MEANS).sum()
    deviation = (1 + (START * MEANS**2).sum() - mean**2).sqrt()
    assert ((z.mean(0) - mean).abs() < 5 * deviation / math.sqrt(20_000)).all()
    estimate = density.estimate(model, x, 8000, proposal=density.Defensive(0.5))
    error = estimate.log_likelihood - mixture_evidence(x)
    assert (error.abs() < 5 * estimate.standard_error).all()


def covariate(x: Tensor) -> None:
    """Draw z ~ N(u, 1) and y ~ N(z, 1) for rows (u, y): log p(y | u) is normal."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x[:, 0], 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=x[:, 1])


def covariate_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.mean(-1), 0.9))


def test_a_defensive_draw_comes_from_the_prior_of_its_own_datum() -> None:
    x = torch.tensor([[-3.0, -2.0], [0.0, 1.5], [4.0, 4.5]])
    estimate = density.estimate(
        from_pyro(covariate, covariate_guide), x, 20_000, proposal=density.Defensive(0.5)
    )
    truth = Normal(x[:, 0], math.sqrt(2)).log_prob(x[:, 1])
    assert ((estimate.log_likelihood - truth).abs() < 5 * estimate.standard_error).all()
    assert (estimate.standard_error < 0.02).all()


# Refusals.


def sampled(samples: int) -> Program:
    def program(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            infer = {"enumerate": "parallel", "num_samples": samples}
            c = pyro.sample("c", dist.Categorical(START), infer=infer)
            z = pyro.sample("z", dist.Normal(MEANS[c], 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    return program


def sequential(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        c = pyro.sample("c", dist.Categorical(START), infer={"enumerate": "sequential"})
        z = pyro.sample("z", dist.Normal(MEANS[c], 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def loose(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.validation_enabled(False):
            pyro.sample("x", dist.Normal(z + torch.zeros(4, 1, 1), 0.5), obs=x)


def normal(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def with_a_factor(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.8 * x, 0.6))
        pyro.factor("f", z.square(), has_rsample=True)


def with_an_observation(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.8 * x, 0.6))
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


SCALED = "is scaled by poutine.scale, and a scaled log-probability is of no distribution"


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (sampled(4), z_guide, "site 'c' of the model takes num_samples=4 .* leave num_samples out"),
        (sampled(1), z_guide, "site 'c' of the model takes num_samples=1 .* leave num_samples out"),
        (sequential, z_guide, r"site 'c' .* infer=\{\"enumerate\": \"parallel\"\}"),
        (loose, z_guide, "site 'x' of the model has an axis of 4 that is no plate"),
        (
            poutine.scale(normal, torch.tensor([1.0, 0.5, 2.0])),
            z_guide,
            f"of the model {SCALED}",
        ),
        (poutine.scale(normal, 0.5), z_guide, f"of the model {SCALED}"),
        (poutine.scale(normal, torch.tensor(0.5)), z_guide, f"of the model {SCALED}"),
        (normal, poutine.scale(z_guide, torch.tensor(0.5)), f"of the guide {SCALED}"),
        (normal, with_a_factor, "site 'f' of the guide is a factor or observed, .* leave it out"),
        (
            normal,
            with_an_observation,
            "site 'x' of the guide is a factor or observed, .* leave it out",
        ),
    ],
)
def test_a_site_that_gives_no_density_is_refused_with_the_reason(
    model: Program, guide: Program, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        density.estimate(from_pyro(model, guide), torch.randn(3), 10)


def test_a_scale_of_ones_and_a_factor_of_the_model_are_as_pyro_has_them() -> None:
    def tilted(x: Tensor) -> None:
        normal(x)
        with pyro.plate("data again", len(x)):
            pyro.factor("f", x)

    def deterministic_guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.8 * x, math.sqrt(0.2)))
            pyro.deterministic("twice", 2 * z)

    x = torch.randn(5)
    scaled: Any = poutine.scale(tilted, torch.ones(()))
    estimate = density.estimate(from_pyro(scaled, deterministic_guide), x, 10)
    truth = Normal(0.0, math.sqrt(1.25)).log_prob(x) + x
    torch.testing.assert_close(estimate.log_likelihood, truth)
