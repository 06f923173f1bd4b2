"""Autoregressive pixels: normalised, causal, within reach, and sampled from what scores them."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

import density
from density.images.mlp import MLPVAE
from density.likelihoods.autoregressive import Causal, CausalPixels, WaveWalk, waves
from density.likelihoods.head import Output, Pixels
from univae.errors import InputError

KINDS = {
    "binary": Pixels((1, 3, 3), reach=1, context=4),
    "two channels": Pixels((2, 2, 2), reach=2, context=3),
    "categorical": Pixels((1, 2, 3), "categorical", levels=3, reach=1, context=4),
    "logistic": Pixels((1, 2, 2), "logistic", levels=5, components=2, reach=2, context=4),
}


def output(pixels: Pixels) -> Output:
    """Weights large enough that neighbours matter."""
    head = Output(pixels)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return head


def distribution(pixels: Pixels, *lead: int) -> Distribution:
    head = output(pixels)
    return head(torch.randn(*lead, head.numbers, *pixels.shape))


def every_image(pixels: Pixels) -> Tensor:
    values = itertools.product(range(pixels.levels), repeat=pixels.dims)
    return torch.tensor(list(values), dtype=torch.float64).unflatten(1, pixels.shape)


@pytest.mark.parametrize("name", KINDS)
def test_probabilities_of_all_images_sum_to_one(name: str) -> None:
    log_p = distribution(KINDS[name]).log_prob(every_image(KINDS[name]))
    assert log_p.logsumexp(0).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_a_pixel_depends_on_those_before_it_within_its_reach_and_on_no_other(reach: int) -> None:
    side = 5
    net = Causal(channels=1, reach=reach, width=6, numbers=1)
    seen = torch.autograd.functional.jacobian(
        lambda x: net.context(x).sum((0, 1, 2)), torch.randn(1, 1, side, side)
    )
    places = list(itertools.product(range(side), repeat=2))
    for (row, column), (other, beside) in itertools.product(places, places):
        above = row - other
        across = beside - column
        before = above > 0 or (above == 0 and across < 0)
        near = above <= reach and abs(across) <= reach
        assert (seen[row, column, 0, 0, other, beside] != 0) == (before and near)


@pytest.mark.parametrize("name", ["binary", "two channels", "logistic"])
def test_the_log_probability_is_the_sum_over_pixels_in_raster_order(name: str) -> None:
    pixels = KINDS[name]
    joint = distribution(pixels, 2)
    assert isinstance(joint, CausalPixels)
    x = joint.sample()
    total = torch.zeros(2)
    for row, column in itertools.product(*map(range, pixels.shape[1:])):
        unseen = x.clone()  # what comes later, and the pixel itself, may be anything
        unseen[..., row, column:] = unseen[..., row + 1 :, :] = pixels.levels - 1
        context = joint.net.context(joint.head.scaled(unseen))
        numbers = joint.net.numbers(joint.features + context)[..., row, column]
        total += joint.head.distribution(numbers, (row, column)).log_prob(x[..., row, column])
    torch.testing.assert_close(joint.log_prob(x), total)


@pytest.mark.parametrize(
    ("height", "width", "reach"), [(5, 6, 1), (6, 5, 2), (4, 3, 5), (1, 4, 2), (4, 1, 2)]
)
def test_every_pixel_is_in_one_wave_after_those_that_it_depends_on(
    height: int, width: int, reach: int
) -> None:
    time = {}
    for index, wave in enumerate(waves(height, width, reach)):
        for pixel in zip(wave.rows, wave.columns, strict=True):
            assert pixel not in time
            time[pixel] = index
    assert time.keys() == set(itertools.product(range(height), range(width)))
    for (row, column), (other, beside) in itertools.product(time, time):
        above = row - other
        across = beside - column
        before = above > 0 or (above == 0 and across < 0)
        if before and above <= reach and abs(across) <= reach:
            assert time[other, beside] < time[row, column]


@pytest.mark.parametrize("name", ["binary", "two channels", "categorical", "logistic"])
def test_the_log_probability_is_the_sum_over_waves(name: str) -> None:
    joint = distribution(KINDS[name], 2)
    assert isinstance(joint, CausalPixels)
    x = joint.sample()
    walk = WaveWalk(joint, joint.batch_shape)
    total = torch.zeros(2)
    for rows, columns in walk.positions():
        values = x[..., rows, columns]
        total += walk.distribution((rows, columns)).log_prob(values)
        walk.put((rows, columns), values)
    torch.testing.assert_close(joint.log_prob(x), total, rtol=1e-12, atol=1e-12)
    assert walk.images().equal(x)


def test_draws_have_the_probabilities_they_are_scored_with() -> None:
    pixels = replace(KINDS["binary"], shape=(1, 2, 2))
    joint = distribution(pixels)
    images = every_image(pixels)
    count = 20_000
    expected = joint.log_prob(images).exp()
    drawn = joint.sample((count,))
    codes = (drawn.flatten(1) * 2 ** torch.arange(3, -1, -1)).sum(1).long()
    share = torch.bincount(codes, minlength=16) / count
    error = (expected * (1 - expected) / count).sqrt()
    # 16 comparisons: fails once in 10^5 seeds
    assert ((share - expected).abs() < 5 * error + 1e-9).all()


def test_samples_of_z_share_the_context_of_a_datum() -> None:
    head = output(KINDS["binary"])
    features = torch.randn(4, 2, head.numbers, 1, 3, 3)
    x = torch.randint(2, (2, 1, 3, 3)).double()
    together = head(features).log_prob(x)
    assert together.shape == (4, 2)
    for k, b in itertools.product(range(4), range(2)):
        torch.testing.assert_close(head(features[k, b]).log_prob(x[b]), together[k, b])
    seen: list[int] = []
    assert head.causal is not None
    head.causal.further.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    head(features).log_prob(x)
    assert seen == [2]  # rows: data, not samples of them


def test_a_network_whose_output_is_zero_gives_the_marginals() -> None:
    head = Output(KINDS["binary"])
    x = (torch.rand(400, 1, 3, 3) < 0.3).double()
    head.match_marginals(x)
    assert head.causal is not None
    for parameter in head.causal.last.parameters():
        torch.nn.init.zeros_(parameter)
    p = x.mean(0).clamp(0.001, 0.999)
    expected = (x * p.log() + (1 - x) * (-p).log1p()).sum((1, 2, 3))
    torch.testing.assert_close(head(torch.randn(400, head.numbers, 1, 3, 3)).log_prob(x), expected)


@pytest.mark.slow
def test_a_model_with_neighbours_learns_what_its_latent_cannot_hold() -> None:
    """Chequerboards of random phase in every row: one bit a row, given the left neighbour."""
    torch.manual_seed(1)
    phase = torch.randint(2, (500, 1, 6, 1))
    x = ((torch.arange(6) + phase) % 2).double()
    model = MLPVAE(Pixels((1, 6, 6), reach=1, context=8), latents=(1,), hidden=((8,),))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(150):
        batch = x[step * 50 % 500 :][:50]
        optimizer.zero_grad()
        (-density.elbo(model, batch).mean()).backward()
        optimizer.step()
    bound = -density.elbo(model, x).mean().item()
    assert 6 * math.log(2) - 0.5 < bound < 1.15 * 6 * math.log(2)  # 36 pixels, six bits


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"shape": (4,), "reach": 1}, "reach must be 0, or more for images"),
        ({"shape": (1, 4, 4), "reach": -1}, "reach must be 0, or more for images"),
        ({"shape": (1, 4, 4), "reach": 1, "context": 0}, "context must be at least 1"),
    ],
)
def test_a_context_that_breaks_a_rule_is_refused(
    options: dict[str, object], rule: str, unchecked: None
) -> None:
    with pytest.raises(InputError, match=rf"^Pixels: {rule}"):
        Pixels(**options)
