"""Image and table models: consistent distributions, published initial weights, stored copies."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

import density
from density.calibration import inference_parameters
from density.images.attention import AttentionVAE
from density.images.base import ImageModel
from density.images.conv import ConvVAE
from density.images.ladder import LadderVAE
from density.images.layers import ResNet, glorot
from density.images.mlp import MLPVAE
from density.images.registry import IMAGE_MODELS, build
from density.likelihoods.head import Pixels
from univae.attention.patches import Patches
from univae.checkpoint import load_weights, read_json, save_weights, write_json
from univae.errors import InputError
from univae.latent.hierarchy import Hierarchical

SMALL = Pixels((1, 8, 8))
MODELS: dict[str, Callable[[Pixels], ImageModel]] = {
    "one layer": lambda p: MLPVAE(p, (3,), ((9, 7),)),
    "two layers": lambda p: MLPVAE(p, (4, 2), ((9, 7), (6, 5)), "relu"),
    "three layers": lambda p: MLPVAE(p, (4, 3, 2), ((9,), (6,), (5,)), "gelu"),
    "convolutions": lambda p: ConvVAE(p, latent=3, width=4, depth=2),
    "attention": lambda p: AttentionVAE(p, latent=3, patch=4, width=16, heads=2, layers=1),
    "ladder": lambda p: LadderVAE(p, (2,), width=4),
    "neighbours": lambda p: ConvVAE(replace(p, reach=2, context=5), latent=3, width=4),
    "two rungs": lambda p: LadderVAE(replace(p, shape=(1, 16, 8)), (1, 2), width=4, depth=2),
}
FLAT = ("one layer", "two layers", "three layers")


def perturb(model: nn.Module, size: float = 0.1) -> nn.Module:
    """Move every weight: what starts at zero would hide mistakes."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return model


def data(model: ImageModel, count: int = 5) -> Tensor:
    pixels = model.output.pixels
    if pixels.likelihood == "gaussian":
        return torch.randn(count, *pixels.shape)
    return torch.randint(pixels.levels, (count, *pixels.shape)).double()


@pytest.mark.parametrize("name", MODELS)
def test_the_parameters_of_the_posterior_alone_move_nothing_else(name: str) -> None:
    model = perturb(MODELS[name](SMALL))
    x = data(model)
    z = model.posterior(x).sample()

    def log_densities() -> list[Tensor]:
        with torch.no_grad():
            joint = model.prior().log_prob(z), model.likelihood(z).log_prob(x)
            return [*joint, model.posterior(x).log_prob(z)]

    before = log_densities()
    with torch.no_grad():
        for parameter in inference_parameters(model, x).values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    after = log_densities()
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert not torch.isclose(before[2], after[2]).any()


@pytest.mark.parametrize("name", MODELS)
def test_the_three_distributions_have_the_shapes_of_the_protocol(name: str) -> None:
    model = perturb(MODELS[name](SMALL))
    assert isinstance(model, density.LatentModel)
    x = data(model)
    prior = model.prior()
    q = model.posterior(x)
    assert (prior.batch_shape, q.batch_shape) == ((), (5,))
    assert prior.event_shape == q.event_shape
    z = q.rsample(torch.Size((2, 3)))
    likelihood = model.likelihood(z)
    assert likelihood.event_shape == model.output.pixels.shape
    assert (
        prior.log_prob(z).shape == q.log_prob(z).shape == likelihood.log_prob(x).shape == (2, 3, 5)
    )
    assert model.likelihood(prior.sample()).sample().shape == x.shape[1:]  # no batch at all
    assert prior.sample((4,)).shape == (4, *q.event_shape)


@pytest.mark.parametrize("name", ["one layer", "two layers", "convolutions", "attention"])
def test_the_top_of_the_prior_is_standard_normal(name: str) -> None:
    prior = perturb(MODELS[name](SMALL)).prior()
    top = prior.conditionals(torch.zeros(6))[-1] if isinstance(prior, Hierarchical) else prior
    assert not top.mean.any()
    assert (top.stddev == 1).all()


@pytest.mark.parametrize("name", MODELS)
def test_samples_are_decoded_and_scored_alike_together_and_one_by_one(name: str) -> None:
    model = perturb(MODELS[name](SMALL))
    x = data(model)
    q = model.posterior(x)
    prior = model.prior()
    z = q.sample((3,))
    together = [prior.log_prob(z), q.log_prob(z), model.likelihood(z).log_prob(x)]
    for k in range(3):
        for b in range(5):
            alone = z[k, b : b + 1]
            apart = [
                prior.log_prob(alone),
                model.posterior(x[b : b + 1]).log_prob(alone),
                model.likelihood(alone).log_prob(x[b : b + 1]),
            ]
            for whole, single in zip(together, apart, strict=True):
                torch.testing.assert_close(single[0], whole[k, b])


@pytest.mark.parametrize("name", MODELS)
def test_the_bound_rises_to_the_estimate_in_expectation(name: str) -> None:
    model = perturb(MODELS[name](SMALL), 0.1)
    x = data(model)
    results = [density.estimate(model, x, samples) for samples in (1, 8, 64)]
    for result in results:
        assert (result.elbo <= result.log_likelihood + 1e-9).all()  # Jensen, for the same weights
    log_w = density.log_weights(model, x, 400)
    few = log_w.unflatten(0, (-1, 4)).logsumexp(1) - math.log(4)
    error = few.std(0) / math.sqrt(len(few))
    whole = density.log_likelihood(log_w)
    assert (log_w.mean(0) < few.mean(0) + 1e-9).all()
    assert (few.mean(0) <= whole + 5 * error).all()


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_learns_and_the_encoder_runs_once(name: str) -> None:
    model = perturb(MODELS[name](SMALL))
    x = data(model)
    encoded = []
    encoder = model.first if isinstance(model, MLPVAE) else model.encoder
    first = encoder[0] if isinstance(encoder, nn.ModuleList) else encoder
    first.register_forward_hook(lambda *_: encoded.append(1))
    density.log_weights(model, x, 6, chunk=2).mean().backward()
    assert encoded == [1]
    assert all((p.grad != 0).any() for p in model.parameters())


LIKELIHOODS = {
    "categorical": Pixels((1, 8, 8), "categorical", 17),
    "logistic": Pixels((3, 8, 8), "logistic", 256),
    "mixture": Pixels((3, 8, 8), "logistic", 256, components=4),
    "gaussian": Pixels((1, 8, 8), "gaussian"),
}


@pytest.mark.parametrize("kind", ["one layer", "convolutions", "attention", "ladder"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_model_has_every_likelihood(kind: str, likelihood: str) -> None:
    model = perturb(MODELS[kind](LIKELIHOODS[likelihood]), 0.05)
    x = data(model)
    model.match_marginals(x)
    result = density.estimate(model, x, 4)
    assert result.log_likelihood.isfinite().all()
    assert model.likelihood(model.prior().sample((2,))).mean.shape == (2, *x.shape[1:])


def test_a_pixel_of_an_image_comes_from_its_own_numbers() -> None:
    # A bias on one pixel, channel and level moves the distribution there and nowhere else.
    for kind in ("one layer", "convolutions", "attention", "ladder"):
        model = perturb(MODELS[kind](Pixels((3, 8, 8), "categorical", 5)))
        z = model.prior().sample((2,))
        before = model.likelihood(z).log_table()
        with torch.no_grad():
            model.output.bias[4, 2, 1, 6] += 3
        moved = (model.likelihood(z).log_table() != before).any(-1)
        assert moved.nonzero()[:, 1:].tolist() == [[2, 1, 6]] * 2
        assert (model.likelihood(z).log_table()[:, 2, 1, 6, 4] > before[:, 2, 1, 6, 4]).all()


def test_a_patch_is_pasted_where_it_was_cut() -> None:
    model = AttentionVAE(Pixels((3, 8, 12)), patch=4, width=16, heads=2)
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(model.paste(model.cut(x)), x)


def test_tables_get_a_density_in_their_own_unit() -> None:
    x = torch.randn(400, 3) * torch.tensor([1e-3, 1.0, 1e4]) + torch.tensor([0.0, 5.0, -2e4])
    model = MLPVAE(Pixels((3,), "gaussian"), (2,), ((8,),))
    model.match_marginals(x)
    # a decoder of zeros: the likelihood is that of three Gaussians
    nn.init.zeros_(model.last.weight)
    log_p = model.likelihood(torch.randn(400, 2)).log_prob(x).mean()
    entropy = (x.var(0, correction=0).log() / 2 + 0.5 * math.log(2 * math.pi * math.e)).sum()
    # the smallest scale changes the seventh digit
    assert log_p.item() == pytest.approx(-entropy.item(), abs=1e-5)


# The IWAE paper


def iwae(layers: int) -> MLPVAE:
    images = Pixels((1, 28, 28))
    return MLPVAE(images) if layers == 1 else MLPVAE(images, (100, 50), ((200, 200), (100, 100)))


@pytest.mark.parametrize(("layers", "latent"), [(1, 50), (2, 150)])
def test_the_networks_of_the_iwae_paper_have_its_sizes(layers: int, latent: int) -> None:
    model = iwae(layers)
    assert model.prior().event_shape == (latent,)
    ends = [784, 200, 200, 50] if layers == 1 else [784, 200, 200, 100]
    encoder = sum(a * b + b for a, b in pairwise(ends)) + ends[-2] * ends[-1] + ends[-1]
    decoder = sum(a * b + b for a, b in pairwise(ends[::-1]))
    between = [100, 100, 100, 50] if layers == 2 else []
    up = sum(a * b + b for a, b in pairwise(between)) + (100 * 50 + 50 if between else 0)
    down = 50 * 100 + 100 + 3 * (100 * 100 + 100) if between else 0  # hidden, hidden, mean, scale
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder + up + down


def test_the_generative_network_mirrors_the_inference_network() -> None:
    model = MLPVAE(SMALL, (4, 2), ((9, 7), (6, 5)))

    def widths(module: nn.Module) -> list[int]:
        return [layer.out_features for layer in module.modules() if isinstance(layer, nn.Linear)]

    assert widths(model.first) == [9, 7, 4, 4]  # mean and log-scale last
    assert widths(model.up) == [6, 5, 2, 2]
    assert widths(model.down) == [5, 6, 4, 4]
    assert widths(model.decoder) == [7, 9]
    assert widths(model.last) == [64]


@pytest.mark.parametrize("kind", [MLPVAE, ConvVAE, LadderVAE])
def test_every_weight_starts_within_the_glorot_bound_and_fills_it(
    kind: Callable[[Pixels], ImageModel],
) -> None:
    for layer in kind(Pixels((3, 16, 16))).modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            assert layer.bias is None or not layer.bias.any()
            bound = math.sqrt(6 / sum(nn.init._calculate_fan_in_and_fan_out(layer.weight)))
            # stride 2: a pixel meets a quarter of the taps
            bound *= 2 if isinstance(layer, nn.ConvTranspose2d) else 1
            assert layer.weight.abs().max() <= bound
            if (
                layer.weight.numel() > 500 and layer.weight.any()
            ):  # not the last convolution of a residual pair
                assert layer.weight.abs().max() > 0.97 * bound
                assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_residual_pairs_start_as_the_identity() -> None:
    x = torch.randn(2, 3, 4, 8, 8)
    pairs = ResNet(4, depth=2)
    assert torch.equal(pairs(x), x)
    glorot(pairs)
    assert torch.equal(pairs(x), x)


def test_the_deviation_is_the_exponential_of_a_linear_map_of_tanh_units() -> None:
    model = iwae(1)
    x = torch.randint(2, (4, 1, 28, 28)).double()
    a, _, b, _ = model.first.hidden
    h = torch.tanh(b(torch.tanh(a(x.flatten(1)))))
    q = model.posterior(x)
    torch.testing.assert_close(q.mean, model.first.mean(h))
    torch.testing.assert_close(q.stddev.log(), model.first.log_scale(h))


def test_the_calibrated_decoder_starts_at_the_mean_of_the_data() -> None:
    model = iwae(1)
    x = (torch.rand(300, 1, 28, 28) < 0.3).double()
    x[:, :, :4] = 0
    model.match_marginals(x)
    nn.init.zeros_(model.last.weight)
    mean = model.likelihood(torch.zeros(50)).mean
    torch.testing.assert_close(mean, x.mean(0).clamp(0.001, 0.999))
    assert mean[0, 0, 0].item() == pytest.approx(0.001)


def test_two_layers_infer_upward_and_generate_downward() -> None:
    model = perturb(iwae(2), 0.01)
    x = torch.randint(2, (3, 1, 28, 28)).double()
    q = model.posterior(x)
    p = model.prior()
    assert isinstance(q, Hierarchical)
    assert isinstance(p, Hierarchical)
    z = q.sample()

    above = z.clone()
    below = z.clone()
    above[:, 100:] += 1  # z_2 moves: only p(z_1 | z_2) and not q(z_1 | x) may follow
    below[:, :100] += 1

    def means(distribution: Hierarchical, z: Tensor) -> list[Tensor]:
        return [conditional.mean for conditional in distribution.conditionals(z)]

    assert torch.equal(means(q, above)[0], means(q, z)[0])
    assert not torch.equal(means(q, below)[1], means(q, z)[1])
    assert not torch.equal(means(p, above)[0], means(p, z)[0])
    assert torch.equal(means(p, below)[1], torch.zeros(3, 50))
    assert torch.equal(model.likelihood(above).mean, model.likelihood(z).mean)  # p(x | z_1)
    assert not torch.equal(model.likelihood(below).mean, model.likelihood(z).mean)


@pytest.mark.parametrize("name", FLAT)
def test_no_datum_overflows_a_deviation(name: str) -> None:
    model = perturb(MODELS[name](SMALL), 3.0)
    q = model.posterior(1e30 * torch.ones(1, 1, 8, 8))
    z = q.sample((10,))
    assert z.isfinite().all()
    assert q.log_prob(z).isfinite().all()


# The ladder


def layer_by_layer(q: Hierarchical, p: Hierarchical, z: Tensor) -> Tensor:
    pairs = zip(q.conditionals(z), p.conditionals(z), strict=True)
    return torch.stack([kl_divergence(a, b) for a, b in pairs])


def test_the_posterior_of_a_ladder_starts_at_its_prior() -> None:
    model = LadderVAE(Pixels((1, 16, 16)), (1, 2), width=4)
    x = data(model)
    q = model.posterior(x)
    p = model.prior()
    z = q.sample()
    assert layer_by_layer(q, p, z).abs().max() < 1e-12
    torch.testing.assert_close(
        p.log_prob(z), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    )
    perturb(model)
    assert (layer_by_layer(model.posterior(x), model.prior(), z) > 0).all()
    for parameter in model.climb.infer.parameters():
        nn.init.zeros_(parameter)
    # wherever the prior has moved
    assert layer_by_layer(model.posterior(x), model.prior(), z).abs().max() < 1e-12


def test_a_ladder_descends_from_the_coarsest_layer() -> None:
    model = perturb(LadderVAE(Pixels((1, 16, 16)), (1, 2), width=4))
    assert model.widths == (1 * 8 * 8, 2 * 4 * 4)
    x = data(model)
    order = []
    q = model.posterior(x)

    def choose(layer: int, p: Distribution) -> Tensor:
        order.append(layer)
        return p.mean

    q.walk(torch.Size((5,)), choose)
    assert order == [1, 0]
    z = q.sample()
    for p in (q, model.prior()):
        coarse = z.clone()
        fine = z.clone()
        coarse[:, 64:] += 1
        fine[:, :64] += 1
        assert not torch.equal(p.conditionals(coarse)[0].mean, p.conditionals(z)[0].mean)
        assert torch.equal(p.conditionals(fine)[1].mean, p.conditionals(z)[1].mean)
    coarse = torch.cat([z[:, :64], z[:, 64:] + 1], 1)
    fine = torch.cat([z[:, :64] + 1, z[:, 64:]], 1)
    for at in (coarse, fine):  # the state carries every layer to the image
        assert not torch.allclose(model.likelihood(at).mean, model.likelihood(z).mean)
    changes = [
        q.conditionals(at)[0].mean - model.prior().conditionals(at)[0].mean for at in (z, coarse)
    ]
    assert not torch.allclose(
        *changes
    )  # the change of the fine layer by x depends on the coarse layer


@pytest.mark.parametrize("name", ["two layers", "ladder", "two rungs"])
def test_the_detached_posterior_of_a_model_gives_its_encoder_no_gradient(name: str) -> None:
    model = perturb(MODELS[name](SMALL))
    q = model.posterior(data(model))
    z = q.sample((2,)).requires_grad_()
    held = q.detached().log_prob(z).sum()
    weights = list(model.parameters())
    assert all(
        g is None for g in torch.autograd.grad(held, weights, allow_unused=True, retain_graph=True)
    )
    torch.testing.assert_close(
        torch.autograd.grad(held, z)[0],
        torch.autograd.grad(q.log_prob(z).sum(), z, retain_graph=True)[0],
    )
    scored = torch.autograd.grad(q.log_prob(z).sum(), weights, allow_unused=True)
    assert any(g is not None and g.any() for g in scored)


# Attention


def test_scores_depend_on_the_offsets_of_patches_in_the_plane() -> None:
    layer = perturb(Patches((2, 3), width=16, heads=2, layers=1))
    assert layer.grid.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    rows = torch.randn(2, 6, 16)
    whole = layer(rows)
    torch.testing.assert_close(
        moved(layer, rows, 5, 7), whole, atol=1e-12, rtol=0
    )  # scores depend on differences of positions
    for order in ([1, 0, 2, 3, 4, 5], [3, 1, 2, 0, 4, 5]):  # swaps across a row, and down a column
        assert not torch.allclose(layer(rows[:, order])[:, order], whole)
        with torch.no_grad():
            layer.grid.zero_()
        # without positions: a set of rows
        torch.testing.assert_close(layer(rows[:, order])[:, order], layer(rows))
        with torch.no_grad():
            layer.grid.copy_(torch.cartesian_prod(torch.arange(2), torch.arange(3)))


def moved(layer: Patches, rows: Tensor, down: int, right: int) -> Tensor:
    layer.grid += torch.tensor([down, right])
    output = layer(rows)
    layer.grid -= torch.tensor([down, right])
    return output


# Configurations


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_from_its_configuration_and_weights(name: str, tmp_path: Path) -> None:
    model = perturb(MODELS[name](SMALL))
    x = data(model)
    model.match_marginals(x)
    write_json(tmp_path / "config.json", model.config)
    save_weights(model, tmp_path / "model.safetensors")
    again = build(read_json(tmp_path / "config.json"))
    load_weights(again, tmp_path / "model.safetensors")
    assert type(again) is type(model)
    assert json.dumps(again.config) == json.dumps(model.config)
    assert set(model.state_dict()) - dict(model.named_parameters()).keys() == {
        "output.centre",
        "output.spread",
    }
    z = model.posterior(x).sample((3,))
    for a, b in zip(log_densities(model, x, z), log_densities(again, x, z), strict=True):
        assert torch.equal(a, b)


def log_densities(model: ImageModel, x: Tensor, z: Tensor) -> list[Tensor]:
    return [
        model.prior().log_prob(z),
        model.posterior(x).log_prob(z),
        model.likelihood(z).log_prob(x),
    ]


@pytest.mark.parametrize("name", MODELS)
def test_distributions_stay_in_float32_under_autocast_and_models_move_to_float64(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    model = MODELS[name](SMALL)
    x = data(model).float()
    with torch.autocast("cpu", torch.bfloat16):
        q = model.posterior(x)
        z = q.rsample((2,))
        conditionals = q.conditionals(z) if isinstance(q, Hierarchical) else [q]
        assert {number.dtype for p in conditionals for number in (p.mean, p.stddev)} == {
            torch.float32
        }
        assert {log_p.dtype for log_p in log_densities(model, x, z)} == {torch.float32}
    plain = log_densities(model, x, z)
    for a, b in zip(
        plain, log_densities(model.to(torch.float64), x.double(), z.double()), strict=True
    ):
        assert b.dtype == torch.float64
        torch.testing.assert_close(a.double(), b, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_half_precision_scores_and_samples_in_float32(
    name: str, dtype: torch.dtype
) -> None:
    torch.set_default_dtype(torch.float32)
    half = perturb(MODELS[name](SMALL), 0.05).to(dtype)
    single = copy.deepcopy(half).float()
    x = data(half).float()
    q = half.posterior(x)
    z = q.sample((2,))
    assert z.dtype == half.prior().sample((2,)).dtype == torch.float32
    for ours, truth in zip(log_densities(half, x, z), log_densities(single, x, z), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, truth, atol=0.5, rtol=0.05)
    half.likelihood(z).log_prob(x).sum().backward()
    images = half.likelihood(half.prior().sample((3,))).sample()
    assert half.likelihood(z[:1]).log_prob(images[:1]).isfinite().all()


@pytest.mark.parametrize("likelihood", ["categorical", "logistic"])
def test_causal_pixels_in_half_precision_are_drawn_as_they_are_scored(likelihood: str) -> None:
    torch.set_default_dtype(torch.float32)
    model = perturb(MLPVAE(Pixels((1, 3, 3), likelihood, 200, reach=1), (2,), ((8,),)), 0.05)
    model.to(torch.bfloat16)
    law = model.likelihood(model.prior().sample((4,)))
    x = law.sample()
    assert x.dtype == torch.float32
    assert law.log_prob(x).dtype == torch.float32
    assert law.log_prob(x).isfinite().all()


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_every_registered_class_is_built_from_its_own_configuration(
    name: str, unchecked: None
) -> None:
    entry = IMAGE_MODELS[name]
    model = entry.kind(SMALL, **({"latents": (2,)} if name == "LadderVAE" else {}))
    assert entry.summary
    assert model.config["model"] == name == type(model).__name__
    shapes = [parameter.shape for parameter in model.parameters()]
    assert [parameter.shape for parameter in build(model.config).parameters()] == shapes
    with pytest.raises(InputError, match="a configuration of another version"):
        entry.build({**model.config, "colour": 3})


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_convolutions_take_images_from_8_to_64_pixels(side: int) -> None:
    for model in (
        ConvVAE(Pixels((3, side, side)), width=4),
        LadderVAE(Pixels((3, side, side)), (1,), width=4),
    ):
        x = data(model, 2)
        assert model.likelihood(model.posterior(x).sample()).log_prob(x).isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLPVAE(SMALL, (3,), ((9,), (7,))), r"MLPVAE: needs hidden widths for each latent"),
        (lambda: MLPVAE(SMALL, (3,), ((),)), r"MLPVAE: needs hidden widths"),
        (
            lambda: MLPVAE(SMALL, activation="step"),
            r"activation must be one of tanh, relu, gelu; got 'step'",
        ),
        (
            lambda: ConvVAE(Pixels((7,))),
            r"ConvVAE: data must be \(channels, height, width\); got \(7,\); a fully",
        ),
        (lambda: ConvVAE(Pixels((1, 9, 9))), r"ConvVAE: both sides must be even.*; got 9x9; pad"),
        (lambda: ConvVAE(Pixels((1, 9, 8))), r"ConvVAE: both sides must be even.*; got 9x8; pad"),
        (lambda: ConvVAE(Pixels((1, 8, 9))), r"ConvVAE: both sides must be even.*; got 8x9; pad"),
        (
            lambda: LadderVAE(SMALL, (1, 1)),
            r"LadderVAE: .* for \(1, 8, 8\) images; got 2",
        ),
        (lambda: LadderVAE(SMALL, ()), r"LadderVAE: .*; got 0"),
        (
            lambda: AttentionVAE(SMALL, patch=3),
            r"AttentionVAE: patch must divide both sides; got patch=3, 8x8 pixels",
        ),
        (
            lambda: AttentionVAE(SMALL, width=24, heads=4),
            r"Patches: width must be a multiple of 4 heads",
        ),
        (lambda: build({"model": "GAN"}), r"build: model must be one of MLPVAE, .*; got 'GAN'"),
        (
            lambda: build({**ConvVAE(SMALL, width=4).config, "depht": 2}),
            r"build: a configuration of another version",
        ),
    ],
)
def test_impossible_models_are_refused(
    make: Callable[[], object], message: str, unchecked: None
) -> None:
    with pytest.raises(InputError, match=message):
        make()
