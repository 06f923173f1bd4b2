"""Images as texts of patches: the same picture there and back, a normalised law, and commands that treat it as any."""

import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_commands import refused
from torch import Tensor, nn

import density
from density.estimation.streams import own_streams
from density.images.patch_words import PatchWords
from density.images.registry import build
from density.images.univae import PatchVAE
from density.likelihoods.head import Pixels
from density.trained import TrainedDensity
from experiments import likelihood, train_density
from experiments.evaluation.bounds import Bounded, layered_bound
from experiments.evaluation.memory import rows_at_once, samples_at_once
from experiments.evaluation.proposals import proposal
from experiments.images.task import measure_images
from experiments.training.task import reseed
from univae.errors import InputError
from univae.text.special import END, PAD, RESERVED, START
from univae.vae.grid import Grid, GridEmbedding
from univae.vae.model import UniVAE, UniVAEConfig

TINY = Pixels((1, 2, 4))  # two patches of 2x2: 256 images


def make(pixels: Pixels = TINY, size: float = 0.3, **options: Any) -> PatchVAE:
    """A small model, every weight moved: what starts at zero would hide mistakes."""
    small = {"patch": (2, 2), "width": 16, "heads": 2, "layers": 3, "latent_layers": 2, "latent": 3}
    model = PatchVAE(pixels, **small | options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return model


def every_image(pixels: Pixels) -> Tensor:
    values = itertools.product(range(pixels.levels), repeat=pixels.dims)
    return torch.tensor(list(values)).view(-1, *pixels.shape).double()


@pytest.mark.parametrize(
    ("shape", "levels", "patch"),
    [
        ((1, 4, 6), 2, (2, 2)),
        ((1, 4, 6), 2, (1, 1)),
        ((1, 4, 6), 2, (4, 3)),
        ((3, 4, 4), 2, (2, 2)),
        ((3, 4, 2), 3, (2, 1)),
        ((3, 2, 3), 7, (1, 1)),
        ((1, 4, 4), 9, (2, 2)),
    ],
)
def test_patches_are_cut_as_a_loop_cuts_them_and_pasted_back(
    shape: tuple[int, ...], levels: int, patch: tuple[int, int]
) -> None:
    patches = PatchWords(
        Pixels(shape, "bernoulli" if levels == 2 else "categorical", levels), patch
    )
    x = torch.randint(levels, (2, 5, *shape)).double()
    ids = patches.to_ids(x)
    assert ids.shape == (2, 5, patches.cells) == (2, 5, math.prod(patches.grid))
    assert int(ids.min()) >= RESERVED
    assert int(ids.max()) < RESERVED + patches.word_count
    assert torch.equal(patches.to_images(ids), x)
    expected = []
    tall, broad = patch
    for row, column in itertools.product(range(0, shape[1], tall), range(0, shape[2], broad)):
        tile = x[1, 3, :, row : row + tall, column : column + broad].flatten()
        groups = tile.split(1) if tall * broad == 1 else [tile]
        expected += [
            RESERVED + sum(int(v) * levels**i for i, v in enumerate(group)) for group in groups
        ]
    assert ids[1, 3].tolist() == expected
    words = torch.randint(patches.word_count, (4, patches.cells)) + RESERVED
    assert torch.equal(patches.to_ids(patches.to_images(words)), words)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (TINY, {}),
        (TINY, {"near": 1, "latent_layers": 3}),
        (Pixels((1, 2, 2), "categorical", 4), {"patch": (1, 1)}),
        (Pixels((3, 1, 2)), {"patch": (1, 1), "layers": 2}),
    ],
)
@torch.no_grad()
def test_the_probabilities_of_all_images_sum_to_one(
    pixels: Pixels, options: dict[str, Any]
) -> None:
    model = make(pixels, **options)
    x = every_image(pixels)
    z = model.prior().sample((3,))
    log_p = model.likelihood(z[:, None].expand(-1, len(x), -1, -1)).log_prob(x)
    torch.testing.assert_close(log_p.logsumexp(1), torch.zeros(3), atol=1e-10, rtol=0)
    assert log_p.std() > 0.1


@torch.no_grad()
def test_the_log_probability_is_a_sum_over_words_written_one_by_one() -> None:
    pixels = Pixels((1, 6, 4))
    model = make(pixels)
    x = torch.randint(2, (5, 1, 6, 4)).double()
    z = model.posterior(x).sample()
    ids = model.output.to_ids(x)
    step = model.text.decoder(z)
    previous = torch.full((5,), START)
    total = torch.zeros(5)
    for t in range(model.positions):
        log_p = step(previous).log_softmax(-1)
        assert log_p[:, [PAD, START, END]].isinf().all()
        previous = ids[:, t]
        total += log_p.gather(1, previous[:, None]).squeeze(1)
    torch.testing.assert_close(model.likelihood(z).log_prob(x), total)


@torch.no_grad()
def test_samples_and_data_broadcast_to_what_each_pair_gives_alone() -> None:
    model = make()
    x = every_image(TINY)[[3, 77, 200]]
    z = model.posterior(x).sample((2, 4))
    together = model.likelihood(z).log_prob(x)
    assert together.shape == (2, 4, 3)
    for k, j, b in itertools.product(range(2), range(4), range(3)):
        torch.testing.assert_close(
            model.likelihood(z[k, j, b : b + 1]).log_prob(x[b : b + 1])[0], together[k, j, b]
        )
        torch.testing.assert_close(model.likelihood(z[k, j, b]).log_prob(x[b]), together[k, j, b])
    many = x.expand(2, 4, *x.shape)  # images with sample axes of their own
    torch.testing.assert_close(model.likelihood(z).log_prob(many), together)
    torch.testing.assert_close(model.likelihood(z[0, 0]).log_prob(many)[1, 2], together[0, 0])


@torch.no_grad()
def test_what_one_cell_says_reaches_only_the_cells_after_it() -> None:
    pixels = Pixels((1, 8, 8))
    model = make(pixels, near=2)
    x = torch.randint(2, (1, 1, 8, 8)).double()
    ids = model.output.to_ids(x)
    z = model.prior().sample((1,))
    changed = ids.clone()
    changed[:, 6] = RESERVED + (changed[:, 6] - RESERVED + 1) % 16
    moved = (model.text.likelihood(z).logits(ids) != model.text.likelihood(z).logits(changed))[
        0
    ].any(-1)
    assert moved.tolist() == [False] * 7 + [True] * 9


def test_a_cell_starts_from_the_cells_around_it_and_from_nothing_outside() -> None:
    embedding = GridEmbedding(19, 8, Grid(3, 4, near=1))
    nn.init.normal_(embedding.neighbours.weight)
    ids = torch.randint(RESERVED, 19, (2, 12))
    written = embedding.decoder_rows(torch.cat((torch.full((2, 1), START), ids[:, :-1]), 1))
    table = embedding.neighbours.weight.view(4, 19, 8)
    for b, r, c in itertools.product(range(2), range(3), range(4)):
        places = [(r - 1, c - 1), (r - 1, c), (r - 1, c + 1), (r, c - 1)]
        row = embedding.places.weight[12 + 4 * r + c].clone()
        for offset, (i, j) in enumerate(places):
            inside = i >= 0 and 0 <= j < 4
            row += table[offset, ids[b, 4 * i + j] if inside else PAD]
        torch.testing.assert_close(written[b, 4 * r + c], row)
    feed = embedding.feed(2)
    stepped = [feed(torch.full((2,), START)), *(feed(ids[:, t]) for t in range(11))]
    torch.testing.assert_close(torch.stack(stepped, 1), written)
    feed = embedding.feed(2)
    feed(torch.full((2,), START))
    feed(ids[:, 0])
    feed.reorder(torch.tensor([1, 0]))
    torch.testing.assert_close(feed(ids[:, 1].flip(0)).flip(0), written[:, 2])


@torch.no_grad()
def test_drawn_images_have_the_models_own_probabilities() -> None:
    model = make(size=0.2)
    x = every_image(TINY)
    z = model.prior().sample((1,))
    p = model.likelihood(z.expand(256, -1, -1)).log_prob(x).exp()
    count = 40_000
    drawn = model.likelihood(z).sample((count,)).squeeze(1)
    assert drawn.shape == (count, 1, 2, 4)
    seen = torch.bincount(
        (drawn.flatten(1) @ (2.0 ** torch.arange(8).flip(0))).long(), minlength=256
    )
    rare = count * p < 5  # together in one cell, as the approximation asks
    expected = torch.cat((count * p[~rare], count * p[rare].sum()[None]))
    found = torch.cat((seen[~rare], seen[rare].sum()[None]))
    degrees = int((~rare).sum())
    chi_square = ((found - expected).square() / expected).sum().item()
    assert degrees > 30
    # the deviation of the law, five times
    assert abs(chi_square - degrees) < 5 * math.sqrt(2 * degrees)
    assert model.likelihood(model.prior().sample()).sample().shape == (1, 2, 4)


def test_samples_of_an_exact_bound_are_of_streams_of_their_own() -> None:
    model = make(size=0.2)
    assert isinstance(model, Bounded)
    x = torch.eye(8)[:4].view(4, 1, 2, 4).double()

    def bounds(rows: torch.Tensor, samples: int) -> torch.Tensor:
        with torch.no_grad(), own_streams(0):
            return layered_bound(model, rows, samples).log_likelihood

    several = bounds(x, 6)
    assert not torch.isclose(several, bounds(x, 1), rtol=1e-9).any()
    torch.testing.assert_close(bounds(x.flip(0), 6), several.flip(0))
    torch.testing.assert_close(bounds(x[:1], 6), several[:1])
    torch.manual_seed(5)
    assert torch.equal(bounds(x, 6), several)


def test_the_bound_is_the_mean_log_weight_and_the_estimate_lies_above_it() -> None:
    model = make(size=0.2)
    x = torch.randint(2, (8, 1, 2, 4)).double()
    assert isinstance(model, density.LatentModel)
    with torch.no_grad():
        found = density.estimate(model, x, 2048)
        bound = layered_bound(model, x, 1000)
        log_w = density.log_weights(model, x, 2048)
    assert bound.kl.shape == (8, 2)
    assert (found.log_likelihood >= found.elbo).all()
    elbo = bound.log_likelihood - bound.kl.sum(-1)
    # the exact KL only lowers the second part
    error = (log_w.var(0) * (1 / 2048 + 1 / 1000)).sqrt()
    assert ((elbo - found.elbo).abs() < 5 * error).all()


@pytest.mark.parametrize(
    "name",
    [
        "widened",
        "defensive",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("student", "sobol", "refined")),
    ],
)
@torch.no_grad()
def test_every_proposal_estimates_the_same_likelihood_of_an_image(name: str) -> None:
    model = make(size=0.1)
    x = torch.randint(2, (4, 1, 2, 4)).double()
    plain = density.estimate(model, x, 2048)
    other = density.estimate(model, x, 2048, proposal=proposal(name))
    error = (plain.standard_error.square() + other.standard_error.square()).sqrt()
    assert ((plain.log_likelihood - other.log_likelihood).abs() < 5 * error).all()
    assert (error < 0.2).all()


@torch.no_grad()
def test_calibrated_and_mute_the_model_gives_words_their_shares() -> None:
    model = make(size=0)
    for parameter in (model.text.head.bias, model.text.embedding.tokens.weight):
        parameter.zero_()
    x = (torch.rand(2000, 1, 2, 4) < 0.2).double()
    model.match_marginals(x)
    share = torch.bincount(model.output.to_ids(x).flatten() - RESERVED, minlength=16) + 1
    z = model.prior().sample((2000,))
    expected = (share / share.sum()).log()[model.output.to_ids(x) - RESERVED].sum(-1)
    torch.testing.assert_close(model.likelihood(z).log_prob(x), expected)
    model.match_marginals(torch.full((2000, 1, 2, 4), 0.2))  # shares of white, drawn
    again = model.likelihood(z).log_prob(x).mean()
    assert again == pytest.approx(expected.mean().item(), abs=0.05)


def test_memory_bounds_the_draws_of_a_model_that_writes() -> None:
    model = make()
    assert samples_at_once(model, 100) == 16_384 // 200
    assert samples_at_once(model, 10**6) == 1
    assert (rows_at_once(model, 1000), rows_at_once(model, 100), rows_at_once(model, 9, 10**6)) == (
        512,
        100,
        1,
    )
    plain = build(
        {"model": "MLPVAE", "pixels": {"shape": (4,)}, "latents": (2,), "hidden": ((3,),)}
    )
    assert (samples_at_once(plain, 100), rows_at_once(plain, 100)) == (None, 100)


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (
            replace(TINY, shape=(8,)),
            {},
            r"PatchVAE: data must be \(channels, height, width\); got \(8,\)",
        ),
        (TINY, {"patch": (2, 3)}, "a patch must divide the image; got patch=2x3, 2x4 pixels"),
        (TINY, {"patch": (0, 2)}, "a patch must divide the image; got patch=0x2"),
        (
            Pixels((1, 2, 4), "categorical", 17),
            {},
            "at most 65536 words; got 83521 of 2x2 pixels.*choose patch=1",
        ),
        (
            Pixels((1, 2, 4), "logistic", 17),
            {"patch": (1, 1)},
            "likelihood must be bernoulli or categorical; got logistic",
        ),
        (TINY, {"near": 0}, "near must be at least 1; got rows=1, columns=2, near=0"),
    ],
)
def test_images_that_are_no_words_are_refused(
    pixels: Pixels, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(pixels, **options)


def test_a_grid_is_filled_and_data_hold_levels() -> None:
    with pytest.raises(
        InputError, match="an image fills its grid, so max_length must be 6; got max_length=5"
    ):
        UniVAE(UniVAEConfig(vocab_size=9, max_length=5), Grid(2, 3))
    model = make()
    with pytest.raises(
        InputError, match=r"PatchVAE: x must hold whole levels 0\.\.1; got 0\.5; binarise"
    ):
        model.likelihood(model.prior().sample((1,))).log_prob(torch.full((1, 1, 2, 4), 0.5))
    with pytest.raises(InputError, match=r"PatchVAE: x must end in \(1, 2, 4\); got \(3, 2, 2\)"):
        model.posterior(torch.zeros(3, 2, 2))


def test_a_learned_prior_of_pictures_starts_standard() -> None:
    config = UniVAEConfig(
        vocab_size=19, width=16, heads=2, layers=2, latent_width=3, prior="learned", max_length=4
    )
    model = UniVAE(config, Grid(2, 2)).eval()
    z = torch.randn(4, 2, 3)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum((-1, -2))
    torch.testing.assert_close(model.prior().log_prob(z), expected, atol=1e-5, rtol=1e-5)


COMMON: dict[str, Any] = {
    "steps": 6,
    "batch_size": 20,
    "validation_data": 20,
    "validation_samples": 4,
    "threads": 1,
}


def config(out: Path, **options: Any) -> train_density.Config:
    small = {
        "model": "univae",
        "latents": (3,),
        "width": 16,
        "heads": 2,
        "layers": 2,
        "data": "digits",
    }
    return train_density.Config.of(out=out, **COMMON | small | options)


@pytest.fixture
def single() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("options", "patch"),
    [
        ({"binarisation": "dynamic"}, 2),
        pytest.param({"objective": "iwae", "k": 2}, 1, marks=pytest.mark.slow),
        pytest.param({"free_bits": 0.5, "k": 2}, 1, marks=pytest.mark.slow),
    ],
)
def test_the_command_trains_reopens_and_shows_a_text_model_of_images(
    tmp_path: Path, options: dict[str, Any], patch: int, single: None
) -> None:
    result = train_density.main(config(tmp_path / "run", **options))
    opened = TrainedDensity.open(tmp_path / "run", "cpu")
    assert isinstance(opened.model, PatchVAE)
    assert opened.model.config["patch"] == (patch, patch)
    assert len(result["kl_nats"]) == 2
    held_out = train_density.held_out_data(config(tmp_path / "run", **options))
    reseed(0, "validation")
    again = measure_images(opened.model, held_out, COMMON["validation_samples"])
    assert again["nll_nats"] == pytest.approx(result["validation_nll_nats"], rel=1e-5)
    assert (
        "Draws from the prior: a draw of all pixels"
        in (tmp_path / "run" / "report.html").read_text()
    )


@pytest.mark.slow
def test_training_lowers_the_bound_and_the_command_scores_and_resumes(
    tmp_path: Path, single: None
) -> None:
    options: dict[str, Any] = {"binarisation": "dynamic", "lr": 1e-2, "validate_every": 10}
    result = train_density.train(config(tmp_path / "run", steps=20, **options))
    first, last = (
        row["nll_nats"] for row in TrainedDensity.open(tmp_path / "run").folder.rows("validation")
    )
    assert last < first < 64 * math.log(2)
    scored = {"run": tmp_path / "run", "data": "digits", "limit": 20, "samples": 64}
    plain = likelihood.main(likelihood.Config(**scored, out=tmp_path / "scores.csv"))
    assert plain["elbo_nats"] <= plain["log_likelihood_nats"] < 0
    assert plain["bits_per_dim"] == pytest.approx(-plain["log_likelihood_nats"] / 64 / math.log(2))
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 21
    resumed = train_density.train(config(tmp_path / "run", steps=20, resume=True, **options))
    assert resumed["nll_nats"] == result["nll_nats"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "wine"), "PatchVAE: data must be (channels, height, width); got (13,)"),
        (("--data", "digits", "--patch", "2"), "at most 65536 words; got 83521.*binarise"),
        (
            ("--data", "digits", "--likelihood", "logistic"),
            "likelihood must be bernoulli or categorical; got logistic",
        ),
        (
            ("--data", "digits", "--latents", "3", "4"),
            r"model=univae has one latent; got latents=\(3, 4\)",
        ),
        (("--data", "digits", "--latent-layers", "9"), "latent_layers must lie in 1..layers=2"),
    ],
)
def test_images_the_command_cannot_write_are_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
    unchecked: None,
) -> None:
    said = refused(
        capsys, "train-density", "--model", "univae", "--out", tmp_path / "run", *options
    )
    assert message in said or re.search(message, said), said
    assert not (tmp_path / "run").exists()


def test_a_stored_configuration_builds_the_same_model_and_a_strange_one_is_refused() -> None:
    model = make()
    again = build(json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    x = every_image(TINY)[:4]
    z = model.prior().sample((4,))
    assert torch.equal(model.likelihood(z).log_prob(x), again.likelihood(z).log_prob(x))
    for strange in ({"depth": 2}, {"pixels": {}}):
        with pytest.raises(InputError, match="build: a configuration of another version"):
            build(model.config | strange)
