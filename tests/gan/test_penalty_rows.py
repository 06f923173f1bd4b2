"""Every row of PENALTIES: closed form, where it is evaluated, gradient, weight, refusals."""

import copy
import math
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from gan import Recipe
from gan.combinations import Combination, refuse_combination
from gan.critic_loss import CriticLoss
from gan.losses import LOSSES
from gan.normalization.rules import NORMALIZATIONS, GradientNorm
from gan.normalization.score import Score
from gan.penalties import PENALTIES, CriticBatch, Penalties
from univae.errors import InputError

TERMS = [name for name, penalty in PENALTIES.items() if penalty.term is not None]
PROJECTIONS = [name for name, penalty in PENALTIES.items() if penalty.project is not None]
SHAPE = (1, 8, 8)


class Recorder(nn.Module):
    """A linear critic of images that keeps the rows it scores."""

    def __init__(self, norm: float) -> None:
        super().__init__()
        weight = torch.randn(SHAPE)
        self.weight = nn.Parameter(norm * weight / weight.norm())
        self.rows: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(x.detach())
        return (x * self.weight).flatten(1).sum(1) + 3


class Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(SHAPE), 12)
        self.last = nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(nn.functional.softplus(self.first(x.flatten(1))))


def batch_of(critic: nn.Module, rule: GradientNorm | None = None) -> CriticBatch:
    drawn = torch.Generator().manual_seed(1)
    real = torch.randn(6, *SHAPE, generator=drawn)
    fake = 2 + torch.randn(6, *SHAPE, generator=drawn)
    noise = torch.Generator().manual_seed(2)
    return CriticBatch(Score(critic, rule), real, fake, noise=noise)


def test_every_row_is_a_weight_and_either_a_term_or_a_projection() -> None:
    assert [field.name for field in fields(Penalties)] == list(PENALTIES)
    assert Penalties.RULES.keys() == PENALTIES.keys()
    assert sorted(TERMS + PROJECTIONS) == sorted(PENALTIES)
    for name, penalty in PENALTIES.items():
        usual = Penalties(**{name: penalty.usual})
        assert usual.weights() == {name: penalty.usual}
        assert penalty.summary in penalty.help
        assert f"{penalty.usual:g} is usual" in penalty.help


@pytest.mark.parametrize("norm", [0.5, 3.0])
def test_every_term_of_a_linear_critic_has_its_closed_form(norm: float) -> None:
    critic = Recorder(norm)
    shifted = batch_of(critic)
    closed_forms = {
        "gp": (norm - 1) ** 2,
        "lp": max(norm - 1, 0) ** 2,
        "r1": norm**2 / 2,
        "r2": norm**2 / 2,
        "div": norm**6,
    }
    for name, expected in closed_forms.items():
        assert PENALTIES[name].term(shifted).item() == pytest.approx(expected), name
    of_motion = PENALTIES["cr"].term(batch_of(critic)).item()
    moved, still = critic.rows[-1].chunk(2)
    difference = ((moved - still) * critic.weight).flatten(1).sum(1)
    assert of_motion == pytest.approx(difference.square().mean().item())
    assert {*closed_forms, "cr"} == set(TERMS)


def test_every_term_is_evaluated_where_its_formula_says() -> None:
    for name in TERMS:
        critic = Recorder(1.0)
        batch = batch_of(critic)
        PENALTIES[name].term(batch)
        rows = torch.cat(critic.rows)
        expected = {
            "r1": batch.real,
            "r2": batch.fake,
            "div": torch.cat((batch.real, batch.fake)),
            "cr": rows[: len(batch.real)],  # moved images, and then the real ones as they are
        }
        if name == "cr":
            assert torch.equal(rows[len(batch.real) :], batch.real)
        elif name in expected:
            assert torch.equal(rows, expected[name])
        else:  # on the segments between pairs, at one share of each
            share = (rows - batch.fake) / (batch.real - batch.fake)
            torch.testing.assert_close(share, share[:, :1, :1, :1].expand_as(share))
            assert 0 <= share.min() <= share.max() <= 1


@pytest.mark.parametrize("name", TERMS)
def test_the_gradient_of_every_term_is_that_of_finite_differences(name: str) -> None:
    critic = Smooth()
    term = PENALTIES[name].term(batch_of(critic))
    weights = list(critic.parameters())
    gradients = torch.autograd.grad(term, weights, allow_unused=True)
    directions = [torch.randn_like(weight) for weight in weights]
    along = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)
    values = []
    step = 1e-6
    for sign in (1, -1):
        twin = copy.deepcopy(critic)
        with torch.no_grad():
            for weight, direction in zip(twin.parameters(), directions, strict=True):
                weight.add_(sign * step * direction)
        values.append(PENALTIES[name].term(batch_of(twin)).item())
    assert along.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in TERMS if PENALTIES[name].lazy])
def test_a_lazy_term_from_shared_norms_is_the_term(name: str) -> None:
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 1))
    batch = batch_of(critic, GradientNorm())
    scored = batch.score.with_norms(torch.cat((batch.real, batch.fake)))
    real_norms, fake_norms = scored.score_norms.chunk(2)
    shared = PENALTIES[name].from_norms(real_norms, fake_norms)
    torch.testing.assert_close(shared, PENALTIES[name].term(batch))


@pytest.mark.parametrize("name", TERMS)
def test_the_loss_has_every_term_at_its_weight(name: str) -> None:
    critic = Smooth()
    loss_of = "wasserstein"
    base = Recipe(loss=loss_of, normalization="none", penalties=Penalties())
    recipe = Recipe(loss=loss_of, normalization="none", penalties=Penalties(**{name: 0.7}))
    batch = batch_of(critic)
    losses = []
    for each in (base, recipe):
        noise = torch.Generator().manual_seed(2)
        loss, logged = CriticLoss(critic, each)(
            batch.real, batch.fake, None, regularized=True, noise=noise
        )
        losses.append(loss)
    term = PENALTIES[name].term(batch)
    torch.testing.assert_close(losses[1] - losses[0], 0.7 * term)
    if PENALTIES[name].log_name:
        torch.testing.assert_close(logged[PENALTIES[name].log_name], term.detach())
        assert logged["penalty"] == 0
    else:
        torch.testing.assert_close(logged["penalty"], 0.7 * term.detach())


@pytest.mark.parametrize("name", PROJECTIONS)
def test_every_projection_bounds_the_weights_and_keeps_those_within(name: str) -> None:
    critic = nn.Linear(50, 50)
    before = critic.weight.detach().clone()
    PENALTIES[name].project(critic, 0.01)
    torch.testing.assert_close(critic.weight.detach(), before.clamp(-0.01, 0.01))
    assert max(p.abs().max() for p in critic.parameters()) == 0.01


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", PENALTIES)
def test_every_row_is_refused_exactly_where_it_says_so(
    name: str, loss: str, normalization: str
) -> None:
    penalty = PENALTIES[name]
    normalized = NORMALIZATIONS[normalization].uses_gradient
    of_critic = penalty.bounds_critic and not penalty.of_score
    unbounded = LOSSES[loss].needs_bounded_critic and not (normalized or penalty.bounds_critic)
    wrong_loss = bool(penalty.losses) and loss not in penalty.losses
    combination = Combination(loss, normalization, Penalties(**{name: penalty.usual}))
    if (normalized and of_critic) or unbounded or wrong_loss:
        with pytest.raises(InputError, match="options that cannot be combined"):
            refuse_combination(combination)
    else:
        refuse_combination(combination)


@pytest.mark.parametrize("second", PENALTIES)
@pytest.mark.parametrize("first", PENALTIES)
def test_two_rows_are_refused_exactly_where_one_excludes_the_other(first: str, second: str) -> None:
    if first == second:
        return
    rows = (PENALTIES[first], PENALTIES[second])
    excluded = second in rows[0].excludes or first in rows[1].excludes
    both_bound = all(row.bounds_critic for row in rows)
    exclusive = both_bound and any(row.exclusive for row in rows)
    penalties = Penalties(**{first: 1.0, second: 1.0})
    combination = Combination("wasserstein", "none", penalties)
    if excluded or exclusive:
        with pytest.raises(InputError, match="options that cannot be combined"):
            refuse_combination(combination)
    else:
        refuse_combination(combination)
