"""Every metric against an independent one: closed forms, scipy's matrix root, naive loops, POT."""

import builtins
import math
from typing import Any

import numpy as np
import ot
import pytest
import scipy.linalg
import torch
from torch import Tensor

from gan.metrics import (
    class_coverage,
    exact_wasserstein,
    frechet_distance,
    kernel_distance,
    memorisation,
    mode_coverage,
    nearest,
    prdc,
    sliced_wasserstein,
)
from univae.errors import InputError


@pytest.mark.parametrize(
    "sizes", [(200, 150), (5, 7)]
)  # also fewer points than coordinates: singular covariances
def test_the_frechet_distance_is_that_of_scipys_matrix_root(sizes: tuple[int, int]) -> None:
    a = torch.randn(sizes[0], 12) @ torch.randn(12, 12)
    b = 0.3 + torch.randn(sizes[1], 12)
    A = np.cov(a.numpy().T)
    B = np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(A @ B + 1e-12 * np.eye(12)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(A + B - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)


def test_the_frechet_distance_of_a_shift_is_its_square_and_of_a_dilation_of_the_deviations() -> (
    None
):
    a = torch.randn(500, 4)
    shift = torch.tensor([1.0, 2.0, 0.0, -2.0])
    assert frechet_distance(a, a + shift) == pytest.approx(9)
    variance = a.var(0).sum().item()
    centred = a - a.mean(0)
    assert frechet_distance(centred, 3 * centred) == pytest.approx(4 * variance)


def test_the_kernel_distance_is_the_naive_double_loop() -> None:
    a = torch.randn(7, 3)
    b = 1 + torch.randn(5, 3)

    def kernel(x: Tensor, y: Tensor) -> float:
        return ((x @ y).item() / 3 + 1) ** 3

    def within(x: Tensor) -> float:
        n = len(x)
        return sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    across = sum(kernel(x, y) for x in a for y in b) / 35
    assert kernel_distance(a, b) == pytest.approx(within(a) + within(b) - 2 * across)


def test_the_kernel_distance_of_one_law_is_around_zero() -> None:
    actual = torch.tensor(
        [kernel_distance(torch.randn(60, 4), torch.randn(60, 4)) for _ in range(200)]
    )
    assert actual.mean().abs() < 5 * actual.std() / math.sqrt(200)
    assert actual.min() < 0


def test_precision_recall_density_and_coverage_are_the_naive_loops() -> None:
    real = torch.randn(40, 3)
    fake = 0.7 * torch.randn(30, 3) + 0.5
    k = 3

    def radii(x: Tensor) -> list[float]:
        return [
            sorted((x[i] - y).norm().item() for j, y in enumerate(x) if j != i)[k - 1]
            for i in range(len(x))
        ]

    of_real = radii(real)
    of_fake = radii(fake)
    balls = [[(x - y).norm().item() < r for y in fake] for x, r in zip(real, of_real, strict=True)]
    precision = np.mean([any(balls[i][j] for i in range(40)) for j in range(30)])
    coverage = np.mean([any(row) for row in balls])
    density = np.sum(balls) / (k * 30)
    recall = np.mean(
        [any((x - y).norm() < r for y, r in zip(fake, of_fake, strict=True)) for x in real]
    )
    assert prdc(real, fake, k) == pytest.approx((precision, recall, density, coverage))


def test_collapse_lowers_recall_and_coverage_and_noise_lowers_precision() -> None:
    real = torch.randn(400, 2)
    collapsed = prdc(real, real[:5].repeat(80, 1) + 1e-3 * torch.randn(400, 2))
    assert collapsed.precision > 0.95
    assert collapsed.recall < 0.1
    assert collapsed.coverage < 0.15
    noise = prdc(real, 30 + torch.randn(400, 2))
    assert noise == (0, 0, 0, 0)
    same = prdc(torch.randn(2000, 2), torch.randn(2000, 2))
    assert same.density == pytest.approx(1, abs=0.1)
    # of one law: 1 - 1 / 2^k for large sets of one size
    assert same.coverage == pytest.approx(1 - 0.5**5, abs=0.03)


@pytest.mark.parametrize("sizes", [(50, 50), (50, 31)])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_the_sliced_distance_is_the_mean_of_exact_one_dimensional_ones(
    sizes: tuple[int, int], p: float
) -> None:
    a = torch.randn(sizes[0], 3)
    b = 2 * torch.randn(sizes[1], 3) + 1
    theta = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    theta /= theta.norm(dim=0)
    each = [ot.wasserstein_1d((a @ t).numpy(), (b @ t).numpy(), p=p) for t in theta.T]
    actual = sliced_wasserstein(a, b, 40, p, torch.Generator().manual_seed(1))
    assert actual == pytest.approx(np.mean(each) ** (1 / p))


def test_the_sliced_distance_of_a_shift_is_its_mean_projection() -> None:
    a = torch.randn(100, 2)
    actual = sliced_wasserstein(a, a + torch.tensor([3.0, 0.0]), 20_000)
    # E |cos| = 2 / pi
    assert actual == pytest.approx(3 * 2 / math.pi, abs=5 * 3 * 0.31 / math.sqrt(20_000))


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_exact_transport_agrees_with_pot_for_sets_of_one_size_and_of_two(p: float) -> None:
    a = torch.randn(40, 3)
    b = 1 + torch.randn(40, 3)
    cost = torch.cdist(a, b).pow(p).numpy()
    assert exact_wasserstein(a, b, p) == pytest.approx(ot.emd2([], [], cost) ** (1 / p))
    assert exact_wasserstein(a, a + torch.tensor([2.0, 0.0, 0.0]), p) == pytest.approx(2)
    doubled = exact_wasserstein(a.repeat(2, 1), b, p)
    assert doubled == pytest.approx(exact_wasserstein(a, b, p), rel=1e-6)


def test_sets_of_two_sizes_without_pot_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **others: Any) -> Any:
        if name == "ot":
            raise ImportError(name)
        return real(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    assert exact_wasserstein(torch.zeros(2, 1), torch.ones(2, 1)) == 1
    with pytest.raises(InputError, match="sets of 2 and 3 points need the package POT"):
        exact_wasserstein(torch.zeros(2, 1), torch.ones(3, 1))


def test_copies_are_told_from_fresh_data() -> None:
    train, fresh, held_out = (torch.randn(500, 4) for _ in range(3))
    honest = memorisation(train, fresh, held_out)
    assert honest.ratio == pytest.approx(1, abs=0.15)
    assert honest.copies < 0.05
    copied = memorisation(train, train[:100] + 1e-4 * torch.randn(100, 4), held_out)
    assert copied.ratio < 0.01
    assert copied.copies == 1
    distance, index = nearest(train[:3], train)
    assert index.tolist() == [0, 1, 2]
    assert distance.max() < 1e-6


def test_classes_are_counted_and_weighed() -> None:
    real = torch.arange(4).repeat(25)
    actual = class_coverage(torch.tensor([0] * 50 + [1] * 45 + [2] * 5), real)
    assert actual.present == 3
    assert actual.shares == (0.5, 0.45, 0.05, 0.0)
    expected = 0.5 * math.log(2) + 0.45 * math.log(1.8) + 0.05 * math.log(0.2)
    assert actual.kl_nats == pytest.approx(expected)
    # 4 % is less than a fifth of 25 %
    assert class_coverage(torch.tensor([0] * 96 + [1] * 4), real).present == 1
    assert class_coverage(torch.tensor([4]), real).kl_nats == math.inf


def test_too_few_or_infinite_points_are_refused() -> None:
    with pytest.raises(InputError, match="needs two points a side at least; got 1 and 3"):
        frechet_distance(torch.zeros(1, 2), torch.zeros(3, 2))
    with pytest.raises(InputError, match="points must be finite"):
        kernel_distance(torch.full((3, 2), math.nan), torch.zeros(3, 2))
    with pytest.raises(InputError, match=r"k must lie in 1\.\.2"):
        prdc(torch.zeros(3, 2), torch.zeros(3, 2), k=3)


def test_images_all_alike_have_distances_but_no_balls() -> None:
    alike = torch.ones(30, 4)
    others = torch.randn(30, 4)
    assert frechet_distance(alike, alike) == pytest.approx(0, abs=1e-12)
    assert kernel_distance(alike, alike) == pytest.approx(0, abs=1e-12)
    assert sliced_wasserstein(alike, alike) == 0
    for distance in (frechet_distance, kernel_distance, sliced_wasserstein):
        assert math.isfinite(distance(others, alike))
    collapsed = prdc(others, alike)
    assert collapsed.recall == 0
    assert all(map(math.isfinite, collapsed))
    with pytest.raises(
        InputError, match="prdc: the 30 real points are all alike, so their balls have no radius"
    ):
        prdc(alike, others)


def test_data_that_are_held_out_twice_tell_nothing_of_copies() -> None:
    train = torch.randn(50, 4)
    copied = memorisation(train, torch.randn(50, 4), train[:20])
    assert math.isnan(copied.ratio)
    assert math.isnan(copied.copies)


def test_points_of_other_shapes_and_no_labels_are_refused(unchecked: None) -> None:
    for a, b in ((torch.zeros(3, 2), torch.zeros(3, 4)), (torch.zeros(3, 0), torch.zeros(3, 0))):
        for distance in (frechet_distance, kernel_distance, sliced_wasserstein, prdc):
            with pytest.raises(
                InputError,
                match=r"points must be two matrices with the same features, .* got \(3, ",
            ):
                distance(a, b)
    nothing = torch.zeros(0, dtype=torch.long)
    with pytest.raises(InputError, match="class_coverage: needs at least one label; got none"):
        class_coverage(nothing, torch.tensor([1]))
    with pytest.raises(InputError, match="mode_coverage: needs at least one label; got none"):
        mode_coverage(nothing, 3)
    with pytest.raises(InputError, match="memorisation: points must be finite"):
        memorisation(torch.randn(5, 2), torch.randn(5, 2), torch.full((5, 2), math.nan))


def test_formulas_agree_with_torchmetrics_where_it_is_installed() -> None:
    image = pytest.importorskip("torchmetrics.image")
    a = torch.rand(64, 1, 4, 4)
    b = torch.rand(64, 1, 4, 4) ** 2
    frechet = image.fid.FrechetInceptionDistance(
        feature=torch.nn.Flatten(), normalize=True, input_img_size=(1, 4, 4)
    )
    frechet.set_dtype(torch.float64)
    frechet.update(a, real=True), frechet.update(b, real=False)
    assert frechet_distance(a.flatten(1), b.flatten(1)) == pytest.approx(
        frechet.compute().item(), rel=1e-4
    )
