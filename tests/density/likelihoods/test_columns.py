"""Laws of columns: log-probabilities in the units of the data, and exact marginals of missing cells."""

import itertools
import json
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor

from density.images.mlp import MLPVAE
from density.images.registry import build
from density.likelihoods.column_laws import COLUMN_LAWS, Counts
from density.likelihoods.head import Output, Pixels
from density.objectives import elbo, iwae
from density.tables.kinds import COLUMN_KINDS
from univae.errors import InputError

NAN = math.nan
KINDS = ("numeric", "categorical", "count", "numeric", "categorical")
SIZES = (0, 3, 0, 0, 2)
ROWS = torch.tensor(
    [
        [39.1, 0, 3, 3750, 1],
        [NAN, 1, 0, 3800, 0],
        [40.3, NAN, 7, NAN, 1],
        [36.7, 2, NAN, 3450, NAN],
        [42.5, 0, 12, 4200, 0],
    ],
    dtype=torch.float64,
)


def pixels(likelihood: str = "gaussian") -> Pixels:
    return Pixels((5,), likelihood, kinds=KINDS, sizes=SIZES)


def output(likelihood: str = "gaussian") -> Output:
    head = Output(pixels(likelihood))
    head.match_marginals(ROWS)
    return head


def raw(head: Output, lead: tuple[int, ...] = (4,)) -> Tensor:
    return torch.randn(*lead, head.numbers, 5) / 2


def test_every_kind_of_column_has_a_law() -> None:
    assert COLUMN_LAWS.keys() == COLUMN_KINDS.keys()


@pytest.mark.parametrize(
    ("likelihood", "law"), [("gaussian", scipy.stats.norm), ("student", scipy.stats.t(4))]
)
def test_numeric_columns_have_the_density_in_the_units_of_the_data(likelihood: str, law) -> None:
    head = output(likelihood)
    parameters = raw(head)
    cells = head(parameters).log_cells(ROWS[:1])
    for column in (0, 3):
        location, log_scale = (
            (parameters[:, :2, column] + head.bias[:2, column]).detach().unbind(-1)
        )
        observed = ROWS[:, column]
        observed = observed[~observed.isnan()]
        mean = observed.mean().item()
        deviation = observed.std(correction=0).item()
        # change of variables: the density of u = (x - mean) / deviation, times du / dx
        u = (ROWS[0, column].item() - mean) / deviation
        scale = 1e-3 + log_scale.exp().numpy()
        log_density = law.logpdf((u - location.numpy()) / scale) - np.log(scale * deviation)
        np.testing.assert_allclose(cells[:, column].detach().numpy(), log_density)


def test_counts_are_negative_binomials() -> None:
    head = output()
    parameters = raw(head)
    cells = head(parameters).log_cells(ROWS[:1]).detach()
    log_counts = ROWS[:, 2][~ROWS[:, 2].isnan()].log1p()
    location, log_size = (parameters[:, :2, 2] + head.bias[:2, 2]).detach().unbind(-1)
    mean = (log_counts.mean() + log_counts.std(correction=0) * location).exp().numpy()
    size = log_size.exp().numpy()
    expected = scipy.stats.nbinom.logpmf(3, size, size / (size + mean))
    np.testing.assert_allclose(cells[:, 2].numpy(), expected)


def test_counts_of_large_size_are_poisson_in_either_precision() -> None:
    x = torch.arange(40.0).unsqueeze(-1)
    expected = scipy.stats.poisson.logpmf(np.arange(40), 9)
    for dtype, tolerance in ((torch.float64, 0.03), (torch.float32, 0.03)):
        law = Counts(
            torch.full((1,), math.log(9.0), dtype=dtype), torch.full((1,), 99.0, dtype=dtype)
        )
        np.testing.assert_allclose(law.log_prob(x.to(dtype)).numpy(), expected, atol=tolerance)


def test_categories_have_the_softmax_of_the_logits_of_their_column() -> None:
    head = output()
    parameters = raw(head)
    cells = head(parameters).log_cells(ROWS[:1]).detach()
    logits = (parameters + head.bias).detach()
    torch.testing.assert_close(cells[:, 1], logits[:, :3, 1].log_softmax(-1)[:, 0])
    torch.testing.assert_close(cells[:, 4], logits[:, :2, 4].log_softmax(-1)[:, 1])


@pytest.mark.parametrize("column", range(5))
def test_a_missing_cell_is_integrated_out_exactly(column: int) -> None:
    head = output()
    rows = head(raw(head, (1,)))
    complete = ROWS[0].clone()
    without = complete.clone()
    without[column] = NAN

    def probability(value: float) -> float:
        filled = complete.clone()
        filled[column] = value
        return rows.log_prob(filled).exp().item()

    if KINDS[column] == "numeric":
        part = rows.parts[0].base_dist
        position = (0, 3).index(column)
        centre, scale = (v[0, position, 0].item() for v in (part.loc, part.scale))
        total, _ = scipy.integrate.quad(probability, centre - 12 * scale, centre + 12 * scale)
    else:
        total = sum(probability(value) for value in range(SIZES[column] or 500))
    assert total == pytest.approx(rows.log_prob(without).exp().item(), rel=1e-6)


def test_categories_of_a_row_sum_to_one() -> None:
    head = Output(Pixels((2,), "gaussian", kinds=("categorical",) * 2, sizes=(3, 2)))
    rows = head(raw(Output(pixels()), (1,))[:, :3, :2])
    table = torch.tensor(list(itertools.product(range(3), range(2))), dtype=torch.float64)
    torch.testing.assert_close(rows.log_prob(table).exp().sum(), torch.tensor(1.0))
    assert head.pixels.nats == "mass"
    assert pixels().nats == "density"


@pytest.mark.parametrize("likelihood", ["gaussian", "student"])
def test_a_complete_table_of_numbers_has_the_likelihood_of_the_plain_law(likelihood: str) -> None:
    x = torch.randn(30, 4) * torch.tensor([1.0, 10, 1e3, 1e-3]) + 5
    plain = Output(Pixels((4,), likelihood))
    columns = Output(Pixels((4,), likelihood, kinds=("numeric",) * 4, sizes=(0,) * 4))
    for head in (plain, columns):
        head.match_marginals(x)
    numbers = torch.randn(3, 30, 2, 4)
    torch.testing.assert_close(plain(numbers).log_prob(x), columns(numbers).log_prob(x))
    torch.testing.assert_close(plain.features(x), columns.features(x)[:, :4])


def test_a_decoder_of_zeros_has_the_marginals_of_the_observed_cells() -> None:
    head = output()
    rows = head(torch.zeros(1, head.numbers, 5))
    typical = rows.mean[0]
    assert typical[0].item() == pytest.approx((39.1 + 40.3 + 36.7 + 42.5) / 4)
    assert typical[3].item() == pytest.approx((3750 + 3800 + 3450 + 4200) / 4)
    assert typical[1] == 0
    assert typical[2] == 6  # the mean of 3, 0, 7 and 12 is 5.5
    variance = rows.parts[1].base_dist.variance.item()
    assert variance == pytest.approx(np.var([3, 0, 7, 12]), rel=1e-6)


def test_samples_have_the_means_of_the_distribution() -> None:
    head = output()
    rows = head(raw(head, ()))
    x = rows.sample((20_000,))
    assert not x.isnan().any()
    for group, part in zip(rows.law.groups, rows.parts, strict=True):
        if group.positions != [1, 4]:
            error = x[:, group.positions].mean(0) - part.mean.squeeze(-1)
            bound = 5 * x[:, group.positions].std(0) / math.sqrt(len(x))
            assert (error.abs() < bound).all()
    assert x[:, 1].unique().tolist() == [0, 1, 2]
    assert x[:, 4].unique().tolist() == [0, 1]


def test_the_encoder_sees_what_is_missing_and_nothing_in_its_place() -> None:
    head = output()
    features = head.features(ROWS)
    assert features.shape == (5, head.feature_count) == (5, 2 + 1 + 3 + 2 + 5)
    torch.testing.assert_close(features[:, -5:], ROWS.isnan().double())
    assert features[1, 0] == 0
    assert features[2, 3:6].tolist() == [0, 0, 0]
    assert features[3, 2] == 0
    assert features[1, 3:6].tolist() == [0, 1, 0]


def test_bounds_of_incomplete_rows_are_finite_and_so_are_their_gradients() -> None:
    model = MLPVAE(pixels(), latents=(2,), hidden=((8,),))
    model.match_marginals(ROWS)
    for bound in (elbo(model, ROWS, 3), iwae(model, ROWS, 3)):
        assert bound.isfinite().all()
        model.zero_grad()
        bound.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_row_without_an_observed_cell_has_probability_one() -> None:
    head = output()
    assert head(raw(head, (1,))).log_prob(torch.full((5,), NAN)).item() == 0


def test_a_model_of_columns_is_rebuilt_from_its_configuration() -> None:
    model = MLPVAE(pixels("student"), latents=(2,), hidden=((8,),))
    model.match_marginals(ROWS)
    again = build(json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    z = torch.randn(2, 5, 2)
    torch.testing.assert_close(
        again.likelihood(z).log_prob(ROWS), model.likelihood(z).log_prob(ROWS)
    )


def test_a_configuration_without_columns_is_that_of_earlier_versions() -> None:
    assert "kinds" not in Pixels((3,), "gaussian").to_json()


REFUSED = {
    "kind": ({"kinds": ("date",), "sizes": (0,)}, "kinds must be one of numeric, count"),
    "sizes": ({"kinds": ("numeric",), "sizes": ()}, "one entry for each column"),
    "law": (
        {"kinds": ("numeric",), "sizes": (0,), "likelihood": "bernoulli"},
        "likelihood must be one of real numbers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_columns_that_do_not_fit_are_refused(name: str) -> None:
    options, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        Pixels((1,), **{"likelihood": "gaussian", **options})
