"""Draws that depend on a seed and the datum alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from test_importance import wide
from torch.distributions import Bernoulli, Independent, Normal

import univae
from density import annealed, log_weights
from density.estimation.batches import some_rows
from density.estimation.mean_errors import error_of_estimates
from density.estimation.registry import PROPOSALS
from density.estimation.streams import own_draws, own_streams, rows_with_streams, shared_seed
from density.scores import score
from univae.latent.spherical import VonMisesFisher

GOLDEN = Path(__file__).parents[2] / "golden"


def normals(x: torch.Tensor, draws: int, seed: int = 0, place: str = "here") -> torch.Tensor:
    with own_streams(seed), own_draws(x, place):
        return torch.randn(draws, len(x))


def scores_of(rows: Sequence[int], proposal: str) -> np.ndarray:
    torch.manual_seed(0)
    model, x = wide()
    x = x[:1] + 0.3 * torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    return score(model, x[list(rows)], 64, proposal).log_likelihood


# The numbers


def test_the_draws_are_normal_and_uniform_and_unrelated_between_data_places_and_seeds() -> None:
    x = torch.arange(1.0, 21.0).unsqueeze(1)
    first = normals(x, 5000)
    assert scipy.stats.kstest(first.flatten().numpy(), "norm").pvalue > 0.01
    with own_streams(0), own_draws(x, "here"):
        uniforms = torch.rand(5000, 20)
    assert scipy.stats.kstest(uniforms.flatten().numpy(), "uniform").pvalue > 0.01
    others = [normals(x, 5000, seed=1), normals(x, 5000, place="there")]
    columns = torch.cat([first, *others], 1)
    correlation = torch.corrcoef(columns.T) - torch.eye(60)
    # of 1770 pairs, each of standard deviation 1 / sqrt(5000)
    assert correlation.abs().max() < 4.5 / 5000**0.5


def test_the_draws_of_a_datum_are_the_same_beside_any_data_and_in_chunks() -> None:
    x = torch.arange(1.0, 11.0).unsqueeze(1)
    whole = normals(x, 7)
    assert torch.equal(normals(x.flip(0), 7), whole.flip(1))
    assert torch.equal(normals(x[3:4], 7), whole[:, 3:4])
    assert torch.equal(normals(x[[2, 2, 5]], 7), whole[:, [2, 2, 5]])
    with own_streams(0):
        chunks = []
        for count in (1, 4, 2):
            with own_draws(x, "here"):
                chunks.append(torch.randn(count, 10))
    assert torch.equal(torch.cat(chunks), whole)


def test_padding_and_the_dtype_of_a_datum_do_not_count() -> None:
    ids = torch.tensor([[5, 9, 2, 0], [7, 2, 0, 0]])
    whole = normals(ids, 3)
    assert torch.equal(normals(ids[1:, :2], 3), whole[:, 1:])
    assert torch.equal(normals(ids.double(), 3), whole)


def test_tensors_without_the_axis_of_the_data_are_drawn_as_usual() -> None:
    x = torch.ones(3, 1)
    torch.manual_seed(4)
    usual = torch.randn(2, 5)
    torch.manual_seed(4)
    with own_streams(0), own_draws(x, "here"):
        assert torch.equal(torch.randn(2, 5), usual)
    assert shared_seed("here") is None
    state = torch.get_rng_state()
    normals(x, 100)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "law",
    [
        Normal(torch.zeros(4), 2.0),
        Bernoulli(torch.full((4,), 0.3)),
        VonMisesFisher(torch.eye(4)[[0, 0, 0, 0]], 3.0),
        Independent(Normal(torch.zeros(4, 2), 1.0), 1),
    ],
    ids=lambda law: type(law).__name__,
)
def test_distributions_draw_from_the_streams(law: torch.distributions.Distribution) -> None:
    x = torch.arange(1.0, 5.0)
    drawn = []
    for order in ([0, 1, 2, 3], [1, 0, 2, 3]):
        with own_streams(0), own_draws(x[order], "here"):
            drawn.append(law.sample(torch.Size((500,))))
    assert torch.equal(drawn[0][:, [1, 0, 2, 3]], drawn[1])
    assert abs(drawn[0].double().mean() - law.mean.double().mean()) < 0.15


DATA = torch.arange(1.0, 5.0)


def redirected(draw: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return what a function draws for four data, and check that their streams drew it."""
    drawn = []
    for state in (1, 2):
        torch.manual_seed(state)
        with own_streams(0), own_draws(DATA, "here"):
            drawn.append(draw())
    assert torch.equal(*drawn)
    return drawn[0]


def test_arguments_have_the_names_of_pytorch() -> None:
    values = torch.full((3, 4), 0.4)
    pairs: list[tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]] = [
        (lambda: torch.bernoulli(input=values), lambda: torch.bernoulli(values)),
        (lambda: torch.randn_like(input=values), lambda: torch.randn_like(values)),
        (lambda: torch.rand_like(input=values), lambda: torch.rand_like(values)),
        (lambda: torch.randn(size=(3, 4)), lambda: torch.randn(3, 4)),
        (lambda: torch.normal(mean=values, std=values), lambda: torch.normal(values, values)),
        (
            lambda: torch.empty(3, 4).uniform_(**{"from": 2.0, "to": 5.0}),
            lambda: 2 + 3 * torch.rand(3, 4),
        ),
        (lambda: torch.empty(3, 4).normal_(std=2.0), lambda: 2 * torch.randn(3, 4)),
    ]
    for named, positional in pairs:
        assert torch.equal(redirected(named), redirected(positional))


@pytest.mark.parametrize(
    "options",
    [
        {"requires_grad": True},
        {"generator": torch.Generator().manual_seed(1)},
        {"out": torch.empty(3, 4)},
        {"memory_format": torch.contiguous_format},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_call_with_other_options_is_drawn_as_usual(options: dict[str, Any]) -> None:
    def draw() -> torch.Tensor:
        torch.manual_seed(4)
        if "generator" in options:
            options["generator"].manual_seed(1)
        if "memory_format" in options:
            return torch.rand_like(torch.empty(3, 4), **options)
        return torch.rand(3, 4, **options)

    usual = draw().clone()
    with own_streams(0), own_draws(DATA, "here"):
        drawn = draw()
    assert torch.equal(drawn, usual)
    assert drawn.requires_grad == ("requires_grad" in options)
    if "out" in options:
        assert drawn is options["out"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_uniform_draws_of_few_digits_are_below_one(dtype: torch.dtype) -> None:
    with own_streams(0), own_draws(DATA, "here"):
        uniforms = torch.rand(20_000, 4, dtype=dtype)
    assert uniforms.dtype == dtype
    assert uniforms.max() == torch.nextafter(torch.ones((), dtype=dtype), torch.zeros(()).to(dtype))


def test_rows_that_fill_a_batch_draw_on_their_own_and_leave_the_others_as_they_are() -> None:
    x = torch.arange(1.0, 4.0)
    filled = x[[0, 1, 2, 2, 2]]
    with own_streams(0, filled, 3), own_draws(filled, "here"):
        drawn = torch.randn(10, 5)
    assert torch.equal(drawn[:, :3], normals(x, 10))
    assert len(drawn[0].unique()) == 5
    part = torch.tensor([2, 1])
    with own_streams(0):
        some = some_rows(filled[:4], part)
        assert torch.equal(some, filled[[2, 1, 1, 1]])
        with own_draws(some, "here"):
            again = torch.randn(10, 4)
    assert torch.equal(again[:, :2], drawn[:, [2, 1]])
    assert len(again[0].unique()) == 4
    assert torch.equal(some_rows(filled[:1], part[1:] - 1), filled[:1])  # a row alone stays alone


def test_repeated_data_draw_anew_in_each_repetition() -> None:
    x = torch.arange(1.0, 4.0)
    with own_streams(0):
        repeated = rows_with_streams(x, torch.arange(3).repeat(4))
        with own_draws(repeated, "here", axis=0):
            drawn = torch.randn(12)
    assert len(drawn.unique()) == 12
    with own_streams(0), own_draws(x, "here", axis=0):
        assert torch.equal(torch.randn(3), drawn[:3])


# The scores


def test_the_error_of_a_mean_over_repeated_data_covers_its_spread_over_seeds() -> None:
    model, x = wide()
    repeated = x[[0] * 30 + [1] * 9 + [2]]
    means = []
    errors = []
    for seed in range(60):
        scores = score(model, repeated, 32, "defensive", seed=seed)
        means.append(scores.mean)
        of_estimates = error_of_estimates(
            torch.as_tensor(scores.standard_errors), torch.as_tensor(scores.datum)
        )
        errors.append(of_estimates)
        assert scores.standard_error >= of_estimates
    spread = np.std(means, ddof=1)
    assert 0.7 < np.sqrt(np.mean(np.square(errors))) / spread < 1.4


@pytest.mark.parametrize(
    "proposal",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "refined" else [])
        for name in PROPOSALS
    ],
)
def test_the_score_of_a_datum_does_not_depend_on_the_others(proposal: str) -> None:
    whole = scores_of(range(40), proposal)
    for rows in (range(20), range(20, 40), [7], list(range(39, -1, -1)), [3, 3, 9]):
        np.testing.assert_allclose(scores_of(rows, proposal), whole[list(rows)], rtol=1e-9)


def test_chunks_do_not_change_the_weights() -> None:
    model, x = wide()
    for name in ("posterior", "defensive", "sobol", "student"):
        proposal = PROPOSALS[name].proposal
        weights = []
        for chunk in (1, 5, 64):
            with own_streams(3):
                weights.append(log_weights(model, x, 40, proposal=proposal, chunk=chunk))
        torch.testing.assert_close(weights[0], weights[1])
        torch.testing.assert_close(weights[0], weights[2])


@pytest.mark.parametrize("start", ["prior", "posterior", "mixture"])
def test_annealed_chains_of_a_datum_do_not_depend_on_the_others(start: str) -> None:
    model, x = wide()

    def estimates(rows: torch.Tensor) -> torch.Tensor:
        with own_streams(2), torch.no_grad():
            return annealed(model, rows, 5, 4, start=start).log_likelihood

    whole = estimates(x)
    torch.testing.assert_close(estimates(x.flip(0)), whole.flip(0))
    torch.testing.assert_close(estimates(x[:1]), whole[:1])


def test_other_seeds_give_other_scores_and_the_global_generator_gives_new_ones() -> None:
    model, x = wide()
    first = score(model, x, 16, "defensive", seed=0).log_likelihood
    assert np.array_equal(score(model, x, 16, "defensive", seed=0).log_likelihood, first)
    assert not np.any(score(model, x, 16, "defensive", seed=1).log_likelihood == first)
    new = [score(model, x, 16, "defensive", seed=None).log_likelihood for _ in range(2)]
    assert not np.any(new[0] == new[1])


@pytest.mark.parametrize("name", ["text", pytest.param("text_vmf", marks=pytest.mark.slow)])
def test_texts_score_alike_alone_in_halves_and_in_any_order(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    run = univae.load(GOLDEN / name / "run", device="cpu")
    texts = (GOLDEN / "data" / "texts.txt").read_text(encoding="utf-8").splitlines()[:16]
    whole = run.score(texts, samples=8, proposal="defensive").log_likelihood
    for rows in (range(8), range(8, 16), [5], list(range(15, -1, -1))):
        some = run.score([texts[row] for row in rows], samples=8, proposal="defensive")
        np.testing.assert_allclose(some.log_likelihood, whole[list(rows)], rtol=1e-7)


@pytest.mark.parametrize(("name", "file"), [("images", "images.npy"), ("table", "table.npy")])
def test_rows_score_alike_alone_in_halves_and_in_any_order(name: str, file: str) -> None:
    torch.set_default_dtype(torch.float32)
    run = univae.load(GOLDEN / name / "run", device="cpu")
    data = np.load(GOLDEN / "data" / file)[:60]
    for proposal in ("posterior", "sobol"):
        whole = run.score(data, samples=32, proposal=proposal).log_likelihood
        for rows in (range(30), range(30, 60), [5], list(range(59, -1, -1))):
            some = run.score(data[list(rows)], samples=32, proposal=proposal).log_likelihood
            np.testing.assert_allclose(some, whole[list(rows)], rtol=1e-6)
