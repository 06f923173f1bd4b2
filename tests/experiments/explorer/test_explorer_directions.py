"""Directions of sliders: principal components of codes, and where generated data change most."""

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.distributions import Independent, Normal

from experiments.explorer.directions import principal_components, sensitive_directions
from experiments.explorer.latents import LatentSliders, layout_of
from univae.latent.families import Spherical
from univae.latent.layouts import Flat, Stacked


@pytest.fixture(autouse=True)
def _double_precision() -> None:
    torch.set_default_dtype(torch.float64)


def test_components_are_those_of_scikit_learn_times_their_deviation() -> None:
    codes = torch.randn(40, 5) * torch.tensor([3.0, 1.0, 0.5, 2.0, 0.1]) + 7
    peer = PCA(3).fit(codes.numpy())
    expected = torch.as_tensor(peer.components_ * peer.explained_variance_[:, None] ** 0.5)
    found = principal_components(codes, 3)
    torch.testing.assert_close(found.abs(), expected.abs())
    assert (found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all()


def test_codes_that_do_not_vary_have_no_component() -> None:
    codes = torch.zeros(9, 4)
    codes[:, 2] = torch.randn(9)
    assert principal_components(codes, 4).shape == (1, 4)
    assert principal_components(codes[:1], 4).shape == (0, 4)
    assert principal_components(codes[:0], 4).shape == (0, 4)


def test_the_directions_of_a_linear_generator_are_its_right_singular_vectors() -> None:
    weights = torch.randn(6, 7, 4)  # of images of 6x7 from 4 numbers

    def generate(z: Tensor) -> Tensor:
        return (weights @ z.T).movedim(-1, 0)

    found = sensitive_directions(generate, torch.randn(3, 4), 2)
    _, _, axes = torch.linalg.svd(weights.flatten(0, 1))
    torch.testing.assert_close(found.abs(), axes[:2].abs())
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_a_slider_moves_its_layer_by_standard_deviations_and_leaves_the_others() -> None:
    prior = Independent(Normal(torch.zeros(2, 3), torch.ones(2, 3)), 2)
    codes = torch.randn(50, 2, 3) * torch.tensor([5.0, 1.0, 0.2])
    sliders = LatentSliders.of(prior, codes, range(2))
    labels = [(field.group, field.label) for field in sliders.fields]
    assert labels[:2] == [("Layer 0", "direction 1"), ("Layer 0", "direction 2")]
    assert [group for group, _ in labels] == ["Layer 0"] * 3 + ["Layer 1"] * 3

    offsets = [0.0, 0.0, 0.0, 2.0, 0.0, -1.0]
    moved = sliders.moved(codes, offsets)
    assert torch.equal(moved[:, 0], codes[:, 0])
    step = 2 * sliders.directions[1][0] - sliders.directions[1][2]
    torch.testing.assert_close(moved[:, 1], codes[:, 1] + step)
    assert sliders.missing == ""


def test_a_layer_whose_codes_are_equal_has_no_slider_and_is_named() -> None:
    prior = Independent(Normal(torch.zeros(2, 3), torch.ones(2, 3)), 2)
    codes = torch.randn(50, 2, 3)
    codes[:, 0] = 0.5
    sliders = LatentSliders.of(prior, codes, range(2))
    assert {field.group for field in sliders.fields} == {"Layer 1"}
    assert "equal in layer 0, which has no slider" in sliders.missing


def test_layers_of_a_flat_latent_are_one() -> None:
    assert layout_of(Independent(Normal(torch.zeros(4), torch.ones(4)), 1)) == Flat((4,))
    assert layout_of(Independent(Normal(torch.zeros(2, 4), torch.ones(2, 4)), 2)) == Stacked(2, 4)


def test_latents_of_a_sphere_stay_on_it() -> None:
    z = torch.nn.functional.normalize(torch.randn(7, 4), dim=-1)
    step = torch.randn(4)
    moved = Spherical().displaced(z, step)
    torch.testing.assert_close(moved.norm(dim=-1), torch.ones(7))
    cosine = (moved * (z + step)).sum(-1) / (z + step).norm(dim=-1)
    torch.testing.assert_close(cosine, torch.ones(7))
