"""Gradient normalisation: what holds exactly, what only within a linear region, and what not."""

import copy
from collections.abc import Callable
from types import MethodType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from gan.networks.mlp import MLPCritic
from gan.networks.registry import build
from gan.normalization.derivatives import differentiate, norms
from gan.normalization.gradient import (
    normalize_for_critic,
    normalize_for_generator,
    normalize_gradient,
)
from gan.normalization.linear_regions import has_regions
from gan.normalization.module_types import chain, is_piecewise_linear, rescale
from gan.normalization.rules import GradientNorm
from univae.attention.core import attend
from univae.errors import InputError


def dense(activation: nn.Module, width: int = 32, inputs: int = 5) -> nn.Sequential:
    layers = [
        nn.Linear(inputs, width),
        activation,
        nn.Linear(width, width),
        activation,
        nn.Linear(width, 1),
    ]
    return nn.Sequential(*layers)


def conv(activation: nn.Module) -> nn.Sequential:
    body = [
        nn.Conv2d(2, 6, 3, padding=1),
        activation,
        nn.Conv2d(6, 8, 4, 2, 1),
        activation,
        nn.AvgPool2d(2),
    ]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(8 * 4, 1))


def data(critic: nn.Sequential, count: int = 64) -> Tensor:
    return (
        torch.randn(count, 5) if isinstance(critic[0], nn.Linear) else torch.randn(count, 2, 8, 8)
    )


def input_gradient(score: object, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(score(x).sum(), x)  # type: ignore[operator]
    return g.flatten(1).norm(dim=1)


with torch.random.fork_rng(devices=[]):  # the same weights whatever was imported before
    torch.manual_seed(1)
    LINEAR = [dense(nn.ReLU()), dense(nn.LeakyReLU(0.1)), conv(nn.LeakyReLU(0.2)), conv(nn.ReLU())]


def fresh(critic: nn.Module) -> nn.Module:
    """Float64 weights: the module was made before the tests' default dtype was set."""
    return copy.deepcopy(critic).double()


@pytest.mark.parametrize("critic", LINEAR)
def test_the_gradient_of_a_normalised_piecewise_linear_critic_is_its_closed_form(
    critic: nn.Module,
) -> None:
    critic = fresh(critic)
    x = data(critic)
    f, g = differentiate(critic, x, create_graph=False)
    n = norms(g)
    gn = normalize_gradient(critic, x)
    assert gn.abs().max() < 1
    actual = input_gradient(lambda x: normalize_gradient(critic, x), x)
    torch.testing.assert_close(actual, (n / (n + f.abs())).square(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(actual, (1 - gn.abs()).square(), rtol=1e-9, atol=1e-12)
    assert actual.max() <= 1
    gran = input_gradient(lambda x: normalize_gradient(critic, x, "gran", eps=0.3, K=2.0), x)
    torch.testing.assert_close(gran, 2 * n**2 / (n**2 + 0.3), rtol=1e-12, atol=1e-12)
    for rule in (GradientNorm(), GradientNorm("gran", 0.3, 2.0)):
        slope = input_gradient(
            lambda x, r=rule: normalize_gradient(critic, x, r.method, eps=r.eps, K=r.K), x
        )
        torch.testing.assert_close(rule.slope(f, n) * n, slope, rtol=1e-10, atol=1e-12)


def test_within_a_linear_cell_slopes_are_at_most_one_and_across_cells_they_are_not() -> None:
    def f(x: Tensor) -> Tensor:
        return 1 + x.relu().sum(1)

    left = torch.tensor([[-1e-3], [-2e-3]])
    right = torch.tensor([[1e-3], [2e-3]])
    a = normalize_gradient(f, left)
    b = normalize_gradient(f, right)
    torch.testing.assert_close(a, torch.ones(2))  # n = 0
    torch.testing.assert_close(b, (1 + right[:, 0]) / (2 + right[:, 0]))
    # no Lipschitz function does this
    assert ((a - b).abs() / (left - right).norm(dim=1) > 100).all()
    critic = fresh(LINEAR[0])
    start = torch.randn(4000, 5)
    end = start + 0.3 * torch.randn(4000, 5)
    patterns = [torch.cat([critic[:i](x) > 0 for i in (1, 3)], 1) for x in (start, end)]
    same = (patterns[0] == patterns[1]).all(1)
    slopes = (normalize_gradient(critic, start) - normalize_gradient(critic, end)).abs() / (
        start - end
    ).norm(dim=1)
    assert 100 < same.sum() < 3900
    assert slopes[same].max() <= 1


@pytest.mark.parametrize("factor", [1e-4, 3.0, 1e6])
def test_gn_does_not_see_the_scale_of_the_critic(factor: float) -> None:
    critic = fresh(LINEAR[2])
    x = data(critic)
    before = normalize_gradient(critic, x)
    with torch.no_grad():
        critic[-1].weight *= factor
        critic[-1].bias *= factor
    torch.testing.assert_close(normalize_gradient(critic, x), before, rtol=1e-12, atol=1e-14)


def test_the_parameter_gradient_is_orthogonal_to_the_last_layer() -> None:
    critic = fresh(LINEAR[0])
    normalize_gradient(critic, data(critic)).square().sum().backward()
    last = critic[-1]
    along = (last.weight * last.weight.grad).sum() + (last.bias * last.bias.grad).sum()
    assert along.abs() < 1e-12 * last.weight.grad.norm()


@pytest.mark.parametrize("method", ["gn", "gran"])
@pytest.mark.parametrize("critic", LINEAR)
def test_the_generators_one_pass_is_the_second_order_one_where_the_critic_is_piecewise_linear(
    critic: nn.Module, method: str
) -> None:
    critic = fresh(critic)
    assert is_piecewise_linear(critic)
    z = data(critic).flatten(1)
    matrix = torch.randn(data(critic)[0].numel(), data(critic)[0].numel())
    gradients = []
    for score in (normalize_gradient, normalize_for_generator):
        weights = matrix.clone().requires_grad_()
        fake = (z @ weights).view(data(critic).shape)
        value = score(critic, fake, method)
        value.sigmoid().log().mean().backward()
        gradients.append((value.detach(), weights.grad))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-13)


def parameter_gradients(critic: nn.Module, score: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 2, len(score))
    return list(torch.autograd.grad((weights * score).tanh().sum(), list(critic.parameters())))


@pytest.mark.parametrize("method", ["gn", "gran"])
@pytest.mark.parametrize("critic", LINEAR)
def test_the_critics_first_order_gradient_is_the_second_order_one(
    critic: nn.Module, method: str
) -> None:
    critic = fresh(critic)
    assert has_regions(critic)
    x = data(critic)
    calls = []
    double = normalize_gradient(critic, x, method)
    score, n = normalize_for_critic(critic, x, method)
    torch.testing.assert_close(score, double, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(n, norms(differentiate(critic, x, create_graph=False)[1]))
    for a, b in zip(
        parameter_gradients(critic, score), parameter_gradients(critic, double), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module is critic:
            calls.append(inputs[0])

    hook = register_module_forward_hook(record)  # a hook of the critic would rule out the path
    normalize_for_critic(critic, x)
    hook.remove()
    f, g = differentiate(critic, x, create_graph=False)
    foot = x - (f / norms(g).square()).view(-1, *[1] * (x.ndim - 1)) * g
    # two plain passes, the second at the foot on the plane of its cell
    torch.testing.assert_close(calls[1], foot)


def test_residual_and_conditional_critics_take_the_first_order_path_too() -> None:
    for family, classes in (("ResNet", 3), ("ResNet", 0), ("Conv", 3), ("MLP", 3)):
        critic = build({"network": f"{family}Critic", "shape": (1, 8, 8), "classes": classes})
        x = torch.randn(6, 1, 8, 8)
        labels = torch.randint(3, (6,)) if classes else None
        assert has_regions(critic)
        score, _ = normalize_for_critic(critic, x, labels=labels)
        double = normalize_gradient(critic, x, labels=labels)
        for a, b in zip(
            parameter_gradients(critic, score), parameter_gradients(critic, double), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


class HiddenReLU(nn.Module):
    """Declares what is true of its gradient, and calls a ReLU that is no module."""

    piecewise_linear = True

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 32)
        self.last = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


class OverriddenForward(MLPCritic):
    """Inherits the declarations of a class whose forward it replaces."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.head(self.layers[:-1](x).relu()).squeeze(1)


def overridden() -> nn.Module:
    return OverriddenForward((5,), hidden=(16,))


def replaced_forward() -> nn.Module:
    def forward(self: MLPCritic, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return MLPCritic.forward(self, x.relu(), labels)

    critic = MLPCritic((5,), hidden=(16,))
    critic.forward = MethodType(forward, critic)
    return critic


def hooked() -> nn.Module:
    critic = dense(nn.ReLU())
    critic[0].register_forward_hook(lambda module, inputs, output: output.abs())
    return critic


def spectral() -> nn.Module:
    first = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 8))
    return nn.Sequential(first, nn.ReLU(), nn.Linear(8, 1))


@pytest.mark.parametrize(
    "build_critic",
    [
        HiddenReLU,
        overridden,
        replaced_forward,
        hooked,
        spectral,
        lambda: dense(nn.SiLU()),
        lambda: dense(nn.ReLU(inplace=True)),
    ],
)
def test_a_critic_whose_kinks_are_not_all_known_modules_takes_the_second_order_path(
    build_critic: Callable[[], nn.Module],
) -> None:
    critic = build_critic()
    assert not has_regions(critic)
    x = torch.randn(32, 5)
    twin = copy.deepcopy(critic)
    score = normalize_for_critic(critic, x)[0]
    double = normalize_gradient(twin, x)
    for a, b in zip(
        parameter_gradients(critic, score), parameter_gradients(twin, double), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_a_hidden_relu_is_exact_for_every_draw_of_the_weights() -> None:
    for seed in range(300):  # a numeric test of the affine map accepted about one draw in a hundred
        torch.manual_seed(seed)
        critic = HiddenReLU()
        x = torch.randn(4, 5)
        score = normalize_for_critic(critic, x)[0]
        double = normalize_gradient(critic, x)
        for a, b in zip(
            parameter_gradients(critic, score), parameter_gradients(critic, double), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_a_forward_that_is_replaced_loses_the_declarations_of_its_class() -> None:
    class Smooth(MLPCritic):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
            return nn.functional.silu(super().forward(x))

    critic = Smooth((5,), hidden=(8,))
    assert not is_piecewise_linear(critic)
    x = torch.randn(6, 5)
    exact = input_gradient(lambda x: normalize_gradient(critic, x), x)
    fast = input_gradient(lambda x: normalize_for_generator(critic, x), x)
    torch.testing.assert_close(fast, exact)


def test_the_first_order_path_survives_dead_units_and_gives_values_without_a_graph() -> None:
    for critic in (dense(nn.ReLU()), dense(nn.LeakyReLU(0.1))):
        for parameter in critic.parameters():
            nn.init.zeros_(parameter)
        x = torch.zeros(4, 5)
        for method in ("gn", "gran"):
            for bias in (0.0, 1.0):
                nn.init.constant_(critic[-1].bias, bias)
                score, _ = normalize_for_critic(critic, x, method)
                double = normalize_gradient(critic, x, method)
                assert torch.equal(score, double)
                for a, b in zip(
                    *(parameter_gradients(critic, s) for s in (score, double)), strict=True
                ):
                    torch.testing.assert_close(a, b)
        with torch.no_grad():
            assert not normalize_for_critic(critic, x)[0].requires_grad


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.Softplus(), nn.Tanh(), nn.GELU()])
def test_a_smooth_critic_takes_the_second_order_path_whose_gradient_is_another(
    activation: nn.Module,
) -> None:
    critic = dense(activation)
    assert not is_piecewise_linear(critic)
    x = torch.randn(16, 5)
    exact = input_gradient(lambda x: normalize_gradient(critic, x), x)
    torch.testing.assert_close(
        input_gradient(lambda x: normalize_for_generator(critic, x), x), exact
    )
    f, g = differentiate(critic, x, create_graph=False)
    one_pass = GradientNorm().slope(f, norms(g)) * norms(g)
    assert ((one_pass - exact).abs() / exact).max() > 0.05


def test_a_smooth_critic_breaks_the_bound() -> None:
    def f(x: Tensor) -> Tensor:
        return 0.5 + nn.functional.softplus(x, beta=20).sum(1)

    x = torch.linspace(-2, 2, 4001)[:, None]
    assert input_gradient(lambda x: normalize_gradient(f, x), x).max() == pytest.approx(
        3.2, abs=0.05
    )


def test_without_biases_the_generators_gradient_is_at_least_one_over_one_plus_norm_squared() -> (
    None
):
    layers = [nn.Linear(5, 32, bias=False), nn.LeakyReLU(0.1), nn.Linear(32, 1, bias=False)]
    critic = nn.Sequential(*layers)
    x = 3 * torch.randn(200, 5)
    actual = input_gradient(lambda x: normalize_for_generator(critic, x), x)
    assert (actual >= (1 + x.norm(dim=1)) ** -2 - 1e-12).all()


@pytest.mark.parametrize("weight", [0.0, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dead_critic_gives_finite_scores_and_gradients(weight: float, dtype: torch.dtype) -> None:
    critic = dense(nn.ReLU()).to(dtype)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.mul_(weight)
    x = torch.zeros(4, 5, dtype=dtype, requires_grad=True)
    for score in (normalize_gradient, normalize_for_generator):
        for method in ("gn", "gran"):
            value = score(critic, x, method)
            assert value.isfinite().all()
            if weight == 0:
                assert torch.equal(value, torch.zeros(4, dtype=value.dtype))
            gradients = torch.autograd.grad(
                value.sum(), [x, *critic.parameters()], allow_unused=True
            )
            assert all(g.isfinite().all() for g in gradients if g is not None)


def test_a_dead_input_beside_a_live_bias_has_score_one() -> None:
    critic = dense(nn.ReLU())
    with torch.no_grad():
        critic[0].bias.fill_(-100)
    value = normalize_gradient(critic, torch.randn(4, 5))
    torch.testing.assert_close(value.abs(), torch.ones(4))
    value.sum().backward()
    assert all(p.grad.isfinite().all() for p in critic.parameters())


def test_one_backward_pass_gives_each_samples_own_gradient_also_through_attention() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(4, 12)
            self.head = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.project(x).chunk(3, -1)
            return self.head(x + attend(q, k, v, twice_differentiable=True)).mean(1)

    critic = Reader()
    x = torch.randn(6, 3, 4)
    together = normalize_gradient(critic, x)
    alone = torch.cat([normalize_gradient(critic, x[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
    together.sum().backward()
    assert critic.project.weight.grad.abs().sum() > 0


def test_the_norm_is_over_all_coordinates_of_one_sample() -> None:
    w = torch.randn(3, 4, 4)
    _, g = differentiate(lambda x: (x * w).flatten(1).sum(1), torch.randn(5, 3, 4, 4))
    torch.testing.assert_close(norms(g), w.norm().expand(5))


def test_all_second_order_routes_agree() -> None:
    from torch.func import functional_call, grad, vmap

    critic = fresh(LINEAR[1])
    x = torch.randn(16, 5)
    mean = normalize_gradient(critic, x).square().mean()
    own = torch.autograd.grad(mean, list(critic.parameters()))

    def naive(parameters: dict[str, Tensor]) -> Tensor:
        def f(x: Tensor) -> Tensor:
            return functional_call(critic, parameters, (x[None],)).squeeze()

        n = vmap(grad(f))(x).norm(dim=1)
        values = vmap(f)(x)
        return (values / (n + values.abs())).square().mean()

    other = grad(naive)({name: p.detach() for name, p in critic.named_parameters()})
    for a, b in zip(own, other.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_inputs_stay_as_they_are_and_values_have_no_graph() -> None:
    critic = fresh(LINEAR[0])
    x = torch.randn(3, 5)
    before = x.clone()
    assert not normalize_gradient(critic, x, create_graph=False).requires_grad
    with torch.no_grad():
        assert not normalize_gradient(critic, x).requires_grad
    with torch.inference_mode():
        inside = normalize_gradient(critic, torch.randn(3, 5))
    assert inside.shape == (3,)
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert x.grad is None
    assert all(p.grad is None for p in critic.parameters())


@pytest.mark.parametrize("tracked", [True, False])
def test_a_critic_with_batch_statistics_is_refused_with_the_reason(tracked: bool) -> None:
    norm = nn.BatchNorm1d(32, track_running_stats=tracked).train(tracked)
    critic = nn.Sequential(nn.Linear(5, 32), norm, nn.ReLU(), nn.Linear(32, 1))
    with pytest.raises(
        InputError, match="must depend on one sample alone; got BatchNorm1d 1, which mixes"
    ):
        normalize_gradient(critic, torch.randn(4, 5))
    x = torch.randn(8, 5)  # the reason: the sum's gradient is not the sample's
    x.requires_grad_()
    (g,) = torch.autograd.grad(critic(x).sum(), x, retain_graph=True)
    own = torch.stack([torch.autograd.grad(critic(x)[i].sum(), x)[0][i] for i in range(8)])
    assert (g - own).norm() / own.norm() > 0.3


def test_a_batch_norm_that_evaluates_is_a_linear_layer() -> None:
    critic = nn.Sequential(nn.Linear(5, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1)).eval()
    assert is_piecewise_linear(critic)
    assert normalize_gradient(critic, torch.randn(4, 5)).abs().max() < 1


def test_module_types_tell_whether_a_critic_is_piecewise_linear() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class Told(Silent):
        piecewise_linear = True

    assert not is_piecewise_linear(nn.Sequential(nn.Linear(2, 1), Silent()))
    assert is_piecewise_linear(nn.Sequential(nn.Linear(2, 1), Told()))
    assert not is_piecewise_linear(nn.Sequential(nn.Linear(2, 1), nn.LayerNorm(1)))
    assert not is_piecewise_linear(lambda x: x)
    assert is_piecewise_linear(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 1)))


def test_rescaling_leaves_the_normalised_score_and_gives_weights_their_size() -> None:
    critic = fresh(LINEAR[3])
    x = data(critic)
    before = normalize_gradient(critic, x)
    with torch.no_grad():
        for i, p in enumerate(critic.parameters()):
            p.mul_(10.0 ** (i - 2))
    drifted = normalize_gradient(critic, x)
    rescale(critic)
    torch.testing.assert_close(normalize_gradient(critic, x), drifted, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(before, drifted)
    for layer in chain(critic):
        fan_in = layer.weight[0].numel()
        assert layer.weight.square().mean().sqrt().item() == pytest.approx((2 / fan_in) ** 0.5)
    again = copy.deepcopy(critic.state_dict())
    rescale(critic)
    for name, value in critic.state_dict().items():
        torch.testing.assert_close(value, again[name], rtol=1e-12, atol=0)


def test_only_the_head_of_another_critic_is_rescaled_and_some_are_refused() -> None:
    class Smooth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(5, 8)
            self.head = nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(nn.functional.silu(self.body(x)))

    critic = Smooth()
    x = torch.randn(7, 5)
    before = normalize_gradient(critic, x)
    body = critic.body.weight.clone()
    rescale(critic)
    torch.testing.assert_close(normalize_gradient(critic, x), before)
    assert torch.equal(critic.body.weight, body)
    with pytest.raises(InputError, match="must be a Sequential of linear layers and ReLUs"):
        rescale(nn.Sequential(nn.Linear(2, 2), nn.SiLU()))
    with pytest.raises(InputError, match="reparametrised"):
        rescale(nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gp"}, "method must be gn or gran"),
        ({"eps": 0.0}, "eps must be above 0"),
        ({"K": 0.0}, "K must be"),
    ],
)
def test_a_rule_out_of_range_is_refused(options: dict, message: str, unchecked: None) -> None:
    with pytest.raises(InputError, match=message):
        GradientNorm(**options)


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"one number per row, \(4,\) or \(4, 1\); got \(4, 2\)"):
        normalize_gradient(nn.Linear(3, 2), torch.randn(4, 3))
