"""Hierarchical distributions against the joint Gaussian of linear layers, flat and stacked."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Gamma, Independent, MultivariateNormal, Normal

from univae.errors import InputError
from univae.latent.hierarchy import Choose, Hierarchical, ModuleClimb
from univae.latent.layouts import Flat, Stacked
from univae.latent.sampling import Detachable, Invertible, JointlySampled

WIDTHS = (2, 3, 1)


class Linear(nn.Module):
    """Linear Gaussian layers in any order: each conditional depends on the layer before it."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order
        self.maps = nn.ModuleList(nn.Linear(WIDTHS[a], WIDTHS[b]) for a, b in pairwise(order))
        self.scales = nn.Parameter(torch.rand(len(order)) + 0.5)

    def forward(self, choose: Choose, mean: Tensor) -> None:
        loc = mean
        for step, layer in enumerate(self.order):
            z = choose(layer, Independent(Normal(loc, self.scales[step].expand_as(loc)), 1))
            loc = self.maps[step](z) if step < len(self.maps) else z

    def joint(self, mean: Tensor) -> MultivariateNormal:
        """Return the joint distribution as one Gaussian, the layers in their order in z."""
        offsets = [sum(WIDTHS[:layer]) for layer in range(len(WIDTHS))]
        total = sum(WIDTHS)
        # z = loc + root @ noise
        loc = torch.zeros(total)
        root = torch.zeros(total, total)
        for step, layer in enumerate(self.order):
            block = slice(offsets[layer], offsets[layer] + WIDTHS[layer])
            root[block, block] = self.scales[step] * torch.eye(WIDTHS[layer])
            if step == 0:
                loc[block] = mean
                continue
            parent = self.order[step - 1]
            parent_block = slice(offsets[parent], offsets[parent] + WIDTHS[parent])
            loc[block] = self.maps[step - 1](loc[parent_block])
            root[block] += self.maps[step - 1].weight @ root[parent_block]
        return MultivariateNormal(loc, root @ root.T)


ORDERS = [(0, 1, 2), (2, 1, 0), (1, 2, 0)]  # bottom-up, top-down, and from the middle


def hierarchy(order: tuple[int, ...], batch: int = 4) -> tuple[Hierarchical, Linear, Tensor]:
    climb = Linear(order)
    mean = torch.randn(batch, WIDTHS[order[0]], requires_grad=True)
    return Hierarchical(ModuleClimb(climb, (mean,)), Flat(WIDTHS), (batch,)), climb, mean


@pytest.mark.parametrize("order", ORDERS)
def test_log_prob_is_that_of_the_joint_gaussian_whatever_the_order(order: tuple[int, ...]) -> None:
    q, climb, mean = hierarchy(order)
    z = torch.randn(7, 4, 6)
    expected = torch.stack([climb.joint(mean[b]).log_prob(z[:, b]) for b in range(4)], 1)
    torch.testing.assert_close(q.log_prob(z), expected)
    walked = zip(q.conditionals(z), z.split(WIDTHS, -1), strict=True)
    torch.testing.assert_close(
        torch.stack([p.log_prob(latent) for p, latent in walked]).sum(0), expected
    )


@pytest.mark.parametrize("order", ORDERS)
def test_draws_come_with_their_log_density_and_from_the_joint_gaussian(
    order: tuple[int, ...],
) -> None:
    q, climb, mean = hierarchy(order, batch=2)
    z, log_q = q.rsample_with_log_prob((20_000,))
    assert z.shape == (20_000, 2, 6)
    torch.testing.assert_close(log_q, q.log_prob(z))
    joint = climb.joint(mean[1])
    white = torch.linalg.solve_triangular(joint.scale_tril, (z[:, 1] - joint.mean).T, upper=False)
    assert (white.mean(1).abs() < 5 / math.sqrt(20_000)).all()
    assert ((white @ white.T / 20_000 - torch.eye(6)).abs() < 5 * math.sqrt(2 / 20_000)).all()


@pytest.mark.parametrize("order", ORDERS)
def test_noise_is_mapped_to_what_rsample_draws_and_one_to_one(order: tuple[int, ...]) -> None:
    q, *_ = hierarchy(order)
    eps = torch.randn(5, 4, 6)
    z, log_q = q.from_noise(eps)
    torch.testing.assert_close(log_q, q.log_prob(z))
    walked = zip(q.conditionals(z), z.split(WIDTHS, -1), strict=True)
    torch.testing.assert_close(
        torch.cat([(latent - p.mean) / p.stddev for p, latent in walked], -1), eps
    )
    # change of variables: log q(z) = log N(eps) - log |dz / deps|
    jacobian = torch.autograd.functional.jacobian(
        lambda e: q.from_noise(e.expand(4, 6))[0][0], eps[2, 0]
    )
    expected = Normal(0.0, 1.0).log_prob(eps[2, 0]).sum() - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(log_q[2, 0], expected)


@pytest.mark.parametrize("order", ORDERS)
def test_latents_are_mapped_back_to_their_noise_with_the_same_density(
    order: tuple[int, ...],
) -> None:
    q, *_ = hierarchy(order)
    eps = torch.randn(5, 4, 6)
    z, log_q = q.from_noise(eps)
    noise, density = q.to_noise(z)
    torch.testing.assert_close(noise, eps)
    torch.testing.assert_close(density, log_q)


def test_the_same_noise_gives_the_draw_of_the_same_seed() -> None:
    q, *_ = hierarchy((0, 1, 2))
    torch.manual_seed(3)
    z, _ = q.rsample_with_log_prob((5,))
    torch.manual_seed(3)
    eps = torch.cat([torch.randn(5, 4, width) for width in WIDTHS], -1)
    torch.testing.assert_close(q.from_noise(eps)[0], z)


def test_draws_follow_parameters_and_context() -> None:
    q, climb, mean = hierarchy((0, 1, 2))
    gradients = torch.autograd.grad(q.rsample((3,)).sum(), [mean, *climb.parameters()])
    assert all((g != 0).any() for g in gradients)


@pytest.mark.parametrize("order", ORDERS)
def test_detached_has_the_same_density_and_gradients_in_z_alone(
    order: tuple[int, ...],
) -> None:
    q, climb, mean = hierarchy(order)
    z = torch.randn(3, 4, 6, requires_grad=True)
    full = q.log_prob(z)
    constant = q.detached().log_prob(z)
    torch.testing.assert_close(constant, full)
    leaves = [mean, *climb.parameters()]
    assert all((g != 0).any() for g in torch.autograd.grad(full.sum(), leaves, retain_graph=True))
    assert all(
        g is None
        for g in torch.autograd.grad(constant.sum(), leaves, retain_graph=True, allow_unused=True)
    )
    whole = torch.autograd.grad(full.sum(), z)[0]
    path = torch.autograd.grad(constant.sum(), z)[0]
    torch.testing.assert_close(path, whole)
    b = 1
    covariance = climb.joint(mean[b]).covariance_matrix
    torch.testing.assert_close(
        path[:, b], -(z[:, b] - climb.joint(mean[b]).mean) @ torch.linalg.inv(covariance)
    )


def test_along_a_sample_detached_leaves_out_the_score_and_nothing_else() -> None:
    # d log q(z(phi); phi) = path + score, and the score is the gradient at fixed z
    q, climb, mean = hierarchy((0, 1, 2))
    leaves = [mean, *climb.parameters()]
    z = q.rsample((3,))
    whole = torch.autograd.grad(q.log_prob(z).sum(), leaves, retain_graph=True)
    path = torch.autograd.grad(q.detached().log_prob(z).sum(), leaves, retain_graph=True)
    score = torch.autograd.grad(q.log_prob(z.detach()).sum(), leaves)
    for w, p, s in zip(whole, path, score, strict=True):
        torch.testing.assert_close(w, p + s)
    assert all(p.requires_grad for p in climb.parameters())  # the module is unchanged


def test_modes_follow_the_modes_before_them() -> None:
    q, climb, mean = hierarchy((2, 0, 1))
    torch.testing.assert_close(q.modes(), torch.stack([climb.joint(m).mean for m in mean]))


def test_a_walk_asks_layer_by_layer_with_the_distributions_given_those_chosen_before() -> None:
    q, *_ = hierarchy((2, 1, 0))
    z = torch.randn(4, 6)
    asked = []
    expected = q.conditionals(z)

    def choose(layer: int, p: Distribution) -> Tensor:
        asked.append(layer)
        assert p.batch_shape == (4,)
        torch.testing.assert_close(p.mean, expected[layer].mean)
        return z.split(WIDTHS, -1)[layer]

    walked, conditionals = q.walk(torch.Size((4,)), choose)
    assert asked == [2, 1, 0]
    torch.testing.assert_close(walked, z)
    assert [p.event_shape for p in conditionals] == [(2,), (3,), (1,)]


def test_one_latent_is_scored_under_all_of_a_batch() -> None:
    q, *_ = hierarchy((0, 1, 2))
    z = torch.randn(5, 1, 6)
    torch.testing.assert_close(q.log_prob(z), q.log_prob(z.expand(5, 4, 6)))


def test_it_is_what_estimators_ask_for() -> None:
    q, *_ = hierarchy((0, 1, 2))
    assert isinstance(q, JointlySampled)
    assert isinstance(q, Invertible)
    assert isinstance(q, Detachable)
    assert q.has_rsample


def test_noise_is_refused_by_distributions_that_do_not_map_it() -> None:
    class Positive(nn.Module):
        def forward(self, choose: Choose) -> None:
            choose(0, Independent(Gamma(torch.ones(2), torch.ones(2)), 1))

    q = Hierarchical(ModuleClimb(Positive()), Flat((2,)))
    assert q.rsample((3,)).shape == (3, 2)
    with pytest.raises(InputError, match="Gamma"):
        q.from_noise(torch.randn(3, 2))
    with pytest.raises(InputError, match=r"to_noise: .* Gamma"):
        q.to_noise(torch.rand(3, 2))


# Stacked layers


class Chain(nn.Module):
    """Layers of one width, each a normal around a linear map of the layer before it."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, choose: Choose, loc: Tensor) -> None:
        for layer, linear in enumerate(self.maps):
            z = choose(layer, Independent(Normal(loc, torch.full_like(loc, 0.5)), 1))
            loc = linear(z)


def both_layouts(layers: int, width: int, batch: int) -> tuple[Hierarchical, Hierarchical]:
    climb = ModuleClimb(Chain(layers, width), (torch.randn(batch, width),))
    stacked = Hierarchical(climb, Stacked(layers, width), (batch,))
    return stacked, Hierarchical(climb, Flat((width,) * layers), (batch,))


def test_stacked_layers_are_the_flat_ones_in_another_shape() -> None:
    stacked, flat = both_layouts(3, 2, batch=4)
    assert (stacked.event_shape, flat.event_shape) == ((3, 2), (6,))
    eps = torch.randn(5, 4, 3, 2)
    z, log_p = stacked.from_noise(eps)
    expected, expected_log_p = flat.from_noise(eps.flatten(-2))
    assert torch.equal(z.flatten(-2), expected)
    assert torch.equal(log_p, expected_log_p)
    torch.testing.assert_close(stacked.to_noise(z)[0], eps)
    assert torch.equal(stacked.log_prob(z), flat.log_prob(expected))
    assert torch.equal(stacked.modes().flatten(-2), flat.modes())
    torch.manual_seed(4)
    sample = stacked.rsample((3,))
    torch.manual_seed(4)
    assert torch.equal(sample.flatten(-2), flat.rsample((3,)))


def test_resampled_layers_are_drawn_given_the_layers_before_them() -> None:
    stacked, _ = both_layouts(3, 2, batch=1)
    z = stacked.sample()
    copies = z.expand(20_000, 1, 3, 2)
    resampled = stacked.resample(copies, [1])
    assert torch.equal(resampled[..., [0, 2], :], copies[..., [0, 2], :])
    expected = stacked.conditionals(z)[1]
    error = (resampled[..., 1, :].mean(0) - expected.mean).abs()
    assert (error < 5 * expected.stddev / math.sqrt(20_000)).all()


def test_a_climb_without_a_module_is_not_detached() -> None:
    normal = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    q = Hierarchical(lambda lead, choose: choose(0, normal), Flat((2,)))
    with pytest.raises(InputError, match="not separable from the model; use the objective iwae"):
        q.detached()
