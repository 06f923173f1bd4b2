"""Generators and critics: every shape, labels, second derivatives, rebuilt from their config."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from gan.augment import CHANGES, augment
from gan.networks.registry import build
from gan.normalization.gradient import normalize_gradient
from gan.normalization.module_types import chain, is_piecewise_linear, rescale
from univae.checkpoint import to_json
from univae.errors import InputError

SMALL: dict[str, dict[str, Any]] = {
    "MLP": {"hidden": (8, 8)},
    "Conv": {"width": 4},
    "ResNet": {"width": 4},
    "Attention": {"width": 8, "heads": 2, "layers": 1},
}


def pair(family: str, shape: tuple[int, ...], classes: int = 0) -> tuple[Any, Any]:
    options = {"shape": shape, "classes": classes, **SMALL[family]}
    generator = build({"network": f"{family}Generator", "latent": 6, **options})
    return generator, build({"network": f"{family}Critic", **options})


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (4, 16, 16), (1, 48, 48), (1, 64, 64)])
@pytest.mark.parametrize("family", list(SMALL))
def test_every_family_makes_and_scores_images_of_every_size(
    family: str, shape: tuple[int, ...], classes: int
) -> None:
    generator, critic = pair(family, shape, classes)
    labels = (torch.tensor([0, 1, 2]),) if classes else ()
    fake = generator(torch.randn(3, 6), *labels)
    assert fake.shape == (3, *shape)
    assert fake.abs().max() <= 1
    assert critic(fake, *labels).shape == (3,)
    assert is_piecewise_linear(critic) == (family != "Attention")
    assert (chain(critic) is not None) == (family in ("MLP", "Conv") and not classes)
    score = normalize_gradient(critic, fake.detach(), labels=labels[0] if labels else None)
    score.square().sum().backward()
    gradients = [p.grad for name, p in critic.named_parameters() if "embed" not in name]
    assert all(g is not None and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("family", list(SMALL))
def test_a_stored_configuration_builds_the_same_network(family: str) -> None:
    for network in pair(family, (1, 8, 8), 2):
        again = build(json.loads(json.dumps(to_json(network.config))))
        again.load_state_dict(network.state_dict())
        given = (
            torch.randn(2, 6) if network.latent else torch.randn(2, 1, 8, 8),
            torch.tensor([0, 1]),
        )
        assert torch.equal(network.eval()(*given), again.eval()(*given))


@pytest.mark.parametrize("family", ["Conv", "ResNet"])
def test_convolutions_have_channels_last_in_memory_and_the_same_gradients(family: str) -> None:
    torch.manual_seed(0)
    _, network = pair(family, (3, 16, 16))
    x = torch.randn(2, 3, 16, 16)
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    again = convert_conv2d_weight_memory_format(copy.deepcopy(network), torch.contiguous_format)
    for net in (network, again):
        normalize_gradient(net, x).square().sum().backward()
    torch.testing.assert_close(network(x), again(x))
    for new, old in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(new.grad, old.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", list(SMALL))
def test_labels_matter_and_are_asked_for(family: str) -> None:
    generator, critic = pair(family, (1, 8, 8), 2)
    zero = torch.zeros(1, dtype=torch.long)
    one = torch.ones(1, dtype=torch.long)
    z = torch.randn(1, 6)
    x = torch.randn(1, 1, 8, 8)
    nn.init.normal_(critic.embed.weight)
    for name, parameter in generator.named_parameters():
        if "gain" in name or "shift" in name:
            nn.init.normal_(parameter)
    generator.eval()
    assert not torch.allclose(generator(z, zero), generator(z, one))
    assert not torch.allclose(critic(x, zero), critic(x, one))
    difference = critic(x, one) - critic(x, zero)  # the projection: linear in the last features
    critic.embed.weight.data.mul_(2)
    torch.testing.assert_close(critic(x, one) - critic(x, zero), 2 * difference)
    for network, given in ((generator, z), (critic, x)):
        with pytest.raises(InputError, match="has 2 classes, and needs labels"):
            network(given)


@pytest.mark.parametrize("family", list(SMALL))
def test_a_critics_score_is_its_own_samples_alone(family: str) -> None:
    _, critic = pair(family, (3, 8, 8))
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(critic(x)[2:3], critic(x[2:3]))


def test_a_fresh_critic_keeps_the_size_of_what_passes() -> None:
    for family in SMALL:
        scores = []
        for _ in range(5):
            _, critic = pair(family, (1, 16, 16))
            scores.append(critic(torch.randn(64, 1, 16, 16)).std().item())
        assert 0.02 < sum(scores) / 5 < 60, family


def test_the_kinks_of_a_fresh_mlp_critic_do_not_all_pass_through_the_origin() -> None:
    critic = build({"network": "MLPCritic", "shape": (2,), "hidden": (64, 64)})
    line = torch.linspace(-1, 1, 401)[:, None] * torch.tensor([0.6, 0.8])
    signs = critic.layers[1](critic.layers[0](line)) > 0
    crossed = (signs[1:] != signs[:-1]).any(1)
    assert crossed.sum() > 10  # places of the line at which some unit has its kink


def test_rescaling_a_conv_critic_keeps_its_normalised_scores() -> None:
    for family in ("MLP", "Conv", "ResNet", "Attention"):
        _, critic = pair(family, (1, 8, 8))
        x = torch.randn(4, 1, 8, 8)
        critic.head.weight.data.mul_(1e3)
        before = normalize_gradient(critic, x)
        rescale(critic)
        torch.testing.assert_close(normalize_gradient(critic, x), before)


def test_a_skip_latent_reaches_every_block() -> None:
    generator = build(
        {"network": "ResNetGenerator", "shape": (1, 16, 16), "latent": 7, "width": 4, "skip": True}
    )
    z = torch.randn(2, 7, requires_grad=True)
    generator(z).square().sum().backward()
    assert (z.grad.abs().sum(0) > 0).all()
    assert generator.latent_slices == [3, 2, 2]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"network": "StyleGAN", "shape": (1, 8, 8)}, "network must be one of MLPGenerator"),
        ({"network": "MLPCritic", "shape": (2,), "depth": 3}, "of another version"),
        ({"network": "MLPCritic", "shape": ()}, "shape must be positive sides"),
        (
            {"network": "ConvCritic", "shape": (1, 9, 9)},
            "both sides must be even and one 8 or more",
        ),
        ({"network": "ConvCritic", "shape": (5,)}, r"data must be \(channels, height, width\)"),
        ({"network": "AttentionCritic", "shape": (1, 6, 6)}, "patch must divide both sides"),
        ({"network": "AttentionCritic", "shape": (1, 8, 8), "width": 6}, "a multiple of 4 heads"),
    ],
)
def test_what_cannot_be_built_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(config)


def test_augmentation_is_differentiable_and_its_own_for_each_image() -> None:
    x = torch.rand(400, 3, 16, 16, requires_grad=True)
    for name in CHANGES:
        assert CHANGES[name].summary
        y = augment(x, [name])
        assert y.shape == x.shape
        (g,) = torch.autograd.grad(y.sum(), x)
        assert g.isfinite().all()
        one = x[:1].expand(400, -1, -1, -1)
        assert len({tuple(image.flatten()[:60].tolist()) for image in augment(one, [name])}) > 3
    noise = [torch.Generator().manual_seed(0) for _ in range(2)]
    first, second = (augment(x, ["color", "cutout"], n) for n in noise)
    assert torch.equal(first, second)


def test_an_unknown_change_is_refused(unchecked: None) -> None:
    with pytest.raises(InputError, match="got 'flip'"):
        augment(torch.zeros(1, 1, 8, 8), ["flip"])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"color needs images .* got shape \(3, 2\)"):
        augment(torch.zeros(3, 2), ["color"])


def test_translation_moves_by_an_eighth_at_most_and_fills_with_zeros() -> None:
    x = torch.zeros(500, 1, 16, 16)
    x[:, :, 8, 8] = 1
    moved = augment(x, ["translation"])
    places = moved.flatten(1).argmax(1)
    assert set((places // 16).tolist()) == set(range(6, 11)) == set((places % 16).tolist())
    assert moved.sum() == 500
    edge = augment(torch.ones(500, 1, 16, 16), ["translation"])
    assert set(edge.unique().tolist()) == {0.0, 1.0}


def test_cutout_takes_a_square_of_half_the_side() -> None:
    holes = (augment(torch.ones(500, 1, 16, 16), ["cutout"]) == 0).flatten(1).sum(1)
    assert holes.max() == 64
    assert holes.min() >= 16  # a quarter of it at a corner


def test_the_hole_of_cutout_lies_in_rows_by_height_and_in_columns_by_width() -> None:
    height = 8
    width = 32
    hole = augment(torch.ones(4000, 1, height, width), ["cutout"])[:, 0] == 0
    rows = hole.any(2)
    columns = hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])  # a rectangle
    assert rows.sum(1).max() == height // 2
    assert columns.sum(1).max() == width // 2
    # Row start s is uniform on -2..6, column start on -8..24: the share of holes over each place
    # follows.
    for covered, side in ((rows, height), (columns, width)):
        starts = torch.arange(-(side // 4), side - side // 4 + 1)
        places = torch.arange(side)
        inside = (places >= starts[:, None]) & (places < starts[:, None] + side // 2)
        share = inside.double().mean(0)
        error = (share * (1 - share) / len(covered)).sqrt()
        # fails in one of 10^5 seeds
        assert ((covered.double().mean(0) - share).abs() < 5 * error).all()


def test_each_hidden_width_of_a_generator_is_its_own_layer() -> None:
    generator = build(
        {"network": "MLPGenerator", "shape": (3,), "latent": 5, "hidden": (7, 11), "bounded": False}
    )
    shapes = [
        tuple(layer.weight.shape) for layer in generator.layers if isinstance(layer, nn.Linear)
    ]
    assert shapes == [(7, 5), (11, 7), (3, 11)]
    z = torch.randn(4, 5)
    first, second, last = (layer for layer in generator.layers if isinstance(layer, nn.Linear))
    expected = last(second(first(z).relu()).relu())
    torch.testing.assert_close(generator(z), expected)
