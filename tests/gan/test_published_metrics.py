"""FID and KID as published: the numbers of torch-fidelity on the same features."""

import inspect
import math

import numpy as np
import pytest
import torch

from gan.metrics import (
    Moments,
    frechet_distance,
    frechet_distance_of_moments,
    kernel_distance,
    kernel_distance_of_subsets,
    moments,
    prdc,
)
from gan.truncation import truncated_normal
from tests.peer_fidelity import fidelity
from univae.errors import InputError


def features(count: int, width: int, shift: float = 0.0) -> torch.Tensor:
    """Return correlated features above 0, as those of a network with ReLUs."""
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(1))
    return (torch.randn(count, width) @ mixing + shift).relu() / 3


@pytest.mark.parametrize(("count", "width"), [(300, 24), (3000, 200), (30, 64)])
def test_the_distance_of_moments_is_the_fid_of_torch_fidelity(count: int, width: int) -> None:
    peer = fidelity("metric_fid")
    a, b = features(count, width), features(count + 7, width, 0.2)
    found = frechet_distance_of_moments(moments(a), moments(b))
    statistics = [peer.fid_features_to_statistics(x) for x in (a, b)]
    expected = peer.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert found == pytest.approx(expected, rel=1e-6)
    assert found == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_float32_features_have_the_fid_of_float64_ones_to_single_precision() -> None:
    peer = fidelity("metric_fid")
    a, b = features(3000, 64).float(), features(3000, 64, 0.2).float()
    found = frechet_distance_of_moments(moments(a), moments(b))
    statistics = [peer.fid_features_to_statistics(x) for x in (a, b)]
    expected = peer.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert found == pytest.approx(expected, rel=1e-4)  # its means are sums in float32
    assert found == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_moments_are_those_of_numpy_over_several_blocks() -> None:
    x = features(2500, 5)
    mean, covariance = moments(x)
    np.testing.assert_allclose(mean, x.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-10, atol=1e-14)


def test_the_distance_of_gaussians_has_its_closed_form() -> None:
    a = Moments(torch.tensor([0.0, 1.0]), torch.diag(torch.tensor([1.0, 4.0])))
    b = Moments(torch.tensor([3.0, 1.0]), torch.diag(torch.tensor([9.0, 4.0])))
    assert frechet_distance_of_moments(a, b) == pytest.approx(9 + (1 - 3) ** 2)


def test_the_distance_of_subsets_is_the_kid_of_torch_fidelity() -> None:
    peer = fidelity("metric_kid")
    a, b = features(400, 24), features(350, 24, 0.2)
    options = {"kid_subsets": 7, "kid_subset_size": 100, "verbose": False}
    for seed in (2020, 3):
        found = kernel_distance_of_subsets(a, b, 7, 100, seed)
        expected = peer.kid_features_to_metric(a, b, rng_seed=seed, **options)
        assert found.mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-6)
        assert found.deviation == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-6)
    single = peer.kid_features_to_metric(a.float(), b.float(), rng_seed=3, **options)
    assert found.mean == pytest.approx(single["kernel_inception_distance_mean"], rel=1e-3)


def test_the_defaults_of_subsets_are_those_of_torch_fidelity() -> None:
    defaults = fidelity("defaults").DEFAULTS
    own = inspect.signature(kernel_distance_of_subsets).parameters
    names = {"subsets": "kid_subsets", "size": "kid_subset_size", "seed": "rng_seed"}
    assert {name: own[name].default for name in names} == {
        name: defaults[peer] for name, peer in names.items()
    }


def test_a_subset_of_all_points_is_the_kernel_distance() -> None:
    a, b = features(50, 6), features(50, 6, 0.5)
    found = kernel_distance_of_subsets(a, b, subsets=3, size=50)
    assert found.mean == pytest.approx(kernel_distance(a, b))
    assert found.deviation == pytest.approx(0, abs=1e-12)


def test_precision_and_recall_are_those_of_torch_fidelity() -> None:
    peer = fidelity("metric_prc")
    real, fake = features(300, 8), features(250, 8, 0.3)
    expected = peer.prc_features_to_metric(fake, real, verbose=False)
    found = prdc(real, fake, k=3)
    assert found.precision == pytest.approx(expected["precision"], rel=1e-6)
    assert found.recall == pytest.approx(expected["recall"], rel=1e-6)
    assert 0.1 < found.precision < 0.99


def test_what_has_no_moments_is_refused() -> None:
    with pytest.raises(InputError, match="two points at least; got 1"):
        moments(torch.zeros(1, 2))
    with pytest.raises(InputError, match="must be finite"):
        moments(torch.tensor([[0.0], [math.nan]]))
    with pytest.raises(InputError, match="same features; got 2 and 3"):
        frechet_distance_of_moments(moments(torch.randn(9, 2)), moments(torch.randn(9, 3)))
    with pytest.raises(InputError, match="subsets of 1000 points need as many a side; got 9 and 9"):
        kernel_distance_of_subsets(torch.randn(9, 2), torch.randn(9, 2))


# truncated latents


@pytest.mark.parametrize("truncation", [0.3, 0.7, 2.0])
def test_truncated_latents_have_the_moments_of_the_truncated_normal(truncation: float) -> None:
    z = truncated_normal(2000, 50, truncation).double().flatten()
    assert z.abs().max() <= truncation
    density = math.exp(-(truncation**2) / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * truncation * density / math.erf(truncation / math.sqrt(2))
    five_errors = 5 / math.sqrt(len(z))
    assert abs(z.mean()) < five_errors * math.sqrt(variance)
    assert z.var() == pytest.approx(variance, rel=five_errors * math.sqrt(2))


def test_without_numbers_beyond_the_threshold_latents_are_those_without_truncation() -> None:
    torch.manual_seed(5)
    plain = torch.randn(7, 3)
    torch.manual_seed(5)
    assert torch.equal(truncated_normal(7, 3, 100.0), plain)


def test_a_threshold_near_zero_is_refused() -> None:
    with pytest.raises(InputError, match=r"truncation must be at least 0\.01, or None"):
        truncated_normal(1, 1, 0.001)
