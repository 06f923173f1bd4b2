"""Whether a latent is used, against models where the answer is known."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from density.estimation.collapse import (
    MutualInformation,
    ShuffledGap,
    active_units,
    mutual_information,
    shuffled_gap,
    verdict,
)
from univae.errors import InputError


@dataclass
class Channel:
    r"""q(z | x) = N(g x, t^2) and p(x | z) = N(h z, s^2), per coordinate, for x ~ N(0, I)."""

    g: float = 1.0
    t: float = 1.0
    h: float = 1.0
    s: float = 1.0
    most: int = 0  # pairs, or data, evaluated at once

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(2), 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        channel = self

        class Watched(Independent):
            def log_prob(self, value: Tensor) -> Tensor:
                channel.most = max(channel.most, value.shape[:-1].numel())
                # a layered posterior does not broadcast
                assert value.shape[-2] == self.batch_shape[0]
                return super().log_prob(value)

        return Watched(Normal(self.g * x, self.t), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        self.most = max(self.most, z.shape[:-1].numel())
        return Independent(Normal(self.h * z, self.s), 1)

    def information(self) -> float:
        # two coordinates of log(1 + signal / noise) / 2
        return math.log(1 + (self.g / self.t) ** 2)

    def gap(self) -> float:  # E|x - h z'|^2 - E|x - h z|^2 = 4 h g, over 2 s^2
        return 2 * self.h * self.g / self.s**2


@pytest.mark.parametrize(("g", "draws"), [(0.3, 1), (1.0, 1), (2.0, 3)])
def test_information_is_that_of_a_gaussian_channel_within_five_standard_errors(
    g: float, draws: int
) -> None:
    model = Channel(g=g)
    measured = mutual_information(model, torch.randn(1500, 2), draws=draws, rows=100_000)
    assert abs(measured.nats - model.information()) < 5 * measured.standard_error
    assert measured.standard_error < 0.05
    assert measured.nats < measured.ceiling == math.log(1500)


def test_the_standard_error_of_the_information_is_its_spread() -> None:
    measured = [mutual_information(Channel(), torch.randn(200, 2)) for _ in range(200)]
    spread = torch.tensor([f.nats for f in measured]).std().item()
    assert torch.tensor([f.standard_error for f in measured]).mean().item() == pytest.approx(
        spread, rel=0.25
    )


def test_more_draws_a_datum_steady_the_information() -> None:
    x = torch.randn(300, 2)
    once, often = (mutual_information(Channel(), x, draws=draws) for draws in (1, 10))
    assert often.standard_error < 0.75 * once.standard_error  # 0.58 in the limit
    assert abs(once.nats - often.nats) < 5 * once.standard_error


def test_the_blocks_do_not_change_the_information() -> None:
    x = torch.randn(50, 2)
    values = []
    for rows in (7, 50, 120, 10_000):
        torch.manual_seed(1)
        model = Channel(t=1e-3)  # far apart: each latent knows its datum, whatever the noise
        values.append(mutual_information(model, x, draws=2, rows=rows).nats)
        assert model.most <= rows
    assert values == pytest.approx([math.log(50)] * 4)


def test_blocks_of_pairs_agree_with_the_whole_matrix() -> None:
    class Still(Channel):
        def posterior(self, x: Tensor) -> Distribution:
            class Frozen(Independent):
                def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
                    return (self.mean + x.flip(-1)).expand(*sample_shape, *x.shape)

            return Frozen(Normal(x, 1.0), 1)

    x = torch.randn(40, 2)
    log_q = Independent(Normal(x, 1.0), 1).log_prob((x + x.flip(-1)).unsqueeze(1))
    terms = log_q.diagonal() - (log_q.logsumexp(1) - math.log(40))
    for rows in (7, 40, 100, 4096):
        measured = mutual_information(Still(), x, draws=2, rows=rows)
        assert measured.nats == pytest.approx(terms.mean().item())
        assert measured.standard_error == pytest.approx((terms.std() / math.sqrt(40)).item())


def test_a_posterior_without_data_carries_exactly_nothing() -> None:
    measured = mutual_information(Channel(g=0.0), torch.randn(300, 2))
    assert measured.nats == pytest.approx(0, abs=1e-12)
    assert measured.standard_error < 1e-12


@pytest.mark.parametrize("rows", [300, 4096])
def test_the_gap_is_what_a_wrong_latent_costs(rows: int) -> None:
    model = Channel(g=0.8, h=0.7, s=0.5)
    measured = shuffled_gap(model, torch.randn(4000, 2), rows=rows)
    assert abs(measured.nats - model.gap()) < 5 * measured.standard_error
    assert measured.standard_error < 0.15
    assert model.most <= rows


def test_the_standard_error_of_the_gap_is_its_spread() -> None:
    measured = [shuffled_gap(Channel(g=0.8, h=0.7), torch.randn(300, 2)) for _ in range(300)]
    spread = torch.tensor([f.nats for f in measured]).std().item()
    assert torch.tensor([f.standard_error for f in measured]).mean().item() == pytest.approx(
        spread, rel=0.25
    )


def test_a_decoder_that_ignores_the_latent_has_exactly_no_gap() -> None:
    assert shuffled_gap(Channel(h=0.0), torch.randn(30, 2)) == ShuffledGap(0.0, 0.0)


def test_units_are_active_where_their_mean_moves() -> None:
    means = torch.randn(1000, 2, 3) * torch.tensor([0.0, 0.05, 1.0])
    units = active_units(means)
    assert units.count == 2
    torch.testing.assert_close(units.variances, means.var(0))
    assert active_units(means, threshold=0.001).count == 4


def test_the_verdict_names_the_half_that_collapsed() -> None:
    x = torch.randn(400, 2)

    def judge(model: Channel) -> str:
        return verdict(mutual_information(model, x), shuffled_gap(model, x))

    end = "this is an unconditional model now"
    assert judge(Channel(g=0.0)).startswith(
        "collapsed: the posterior ignores the data, its information is below 0.1 nats (information"
    )
    assert judge(Channel(h=0.0)).startswith(
        "collapsed: the decoder ignores the latent, whatever information it holds: with that of "
        "another datum the log-likelihood falls by less than 0.1 nats (information"
    )
    assert judge(Channel(g=0.0)).endswith(end)
    assert judge(Channel(h=0.0)).endswith(end)
    assert judge(Channel()).startswith("the latent is used (information")
    assert "ceiling" in judge(Channel(t=1e-3))
    assert "ceiling" not in judge(Channel())
    words = verdict(MutualInformation(2.5, 6.0, 0.1), ShuffledGap(7.25, 0.5))
    assert words == "the latent is used (information 2.50 nats of at most 6.00, gap 7.25 nats)"


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"mutual_information: .* at least 2 data.* got N=1"):
        mutual_information(Channel(), torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"shuffled_gap: .* at least 2 data.* got N=1"):
        shuffled_gap(Channel(), torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"active_units: .* at least 2 data; got N=1"):
        active_units(torch.zeros(1, 2))
