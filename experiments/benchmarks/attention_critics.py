r"""Ways to the critic's gradient under gradient normalisation, for a critic with attention.

The gradient of the norm n of the input gradient in the weights is that of :math:`u \cdot \nabla f`
at the constant unit gradient u, and needs a second-order pass or something in its place:

``composed``             double backward through operators of PyTorch
``own``                  double backward through :mod:`univae.second_order`, which is what
                         :class:`gan.networks.AttentionCritic` does
``central difference``   of f at x + h u and x - h u, after a plain backward pass to u
``fourth order``         of f at x + h u, x - h u, x + 2 h u and x - 2 h u
``forward mode``         the derivative of f along u by dual numbers, and its backward pass

Each is compared in time with ``bare``, the critic step without normalisation, and in its relative
distance from the double backward pass in float64: ``distances``, of all weights together. Steps h
are the best of a few. ``generator`` and ``iteration`` have the steps of a training, ``shares`` the
operators of ``own`` with the largest shares of its time.

The networks, batches and steps are those of the study ``wgan_cost``. Times are processor time of
one thread; contestants alternate within a round.

``python -m experiments.benchmarks.attention_critics``
"""

import argparse
import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.gan_step import generator_step
from experiments.benchmarks.harness import compare, report
from experiments.studies.wgan_cost import BATCH, LATENT, METHODS, NETWORKS, players
from gan import WGAN
from gan.losses import critic_loss
from gan.networks.attention import AttentionCritic
from gan.normalization.derivatives import differentiate, norms, per_row, scores
from gan.normalization.rules import GradientNorm
from gan.normalization.score import Score
from univae.attention.core import Mix, attend
from univae.attention.patches import Patches, patch_grid
from univae.checkpoint import JsonObject

NETWORK = "attention"
METHODS_COMPARED = {"bare": "plain", "GN": "gn", "GraN": "gran"}
STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # h, of images of norm 32
# Nodes and weights of differences: of the derivative along u, and of the value.
CENTRAL = ((1.0, 0.5, 0.5), (-1.0, -0.5, 0.5))
FOURTH_ORDER = (
    (1.0, 8 / 12, 4 / 6),
    (-1.0, -8 / 12, 4 / 6),
    (2.0, -1 / 12, -1 / 6),
    (-2.0, 1 / 12, -1 / 6),
)
DIFFERENCES = {"central difference": CENTRAL, "fourth order": FOURTH_ORDER}
SHARES = 12  # operators that are reported
PROFILED = 8  # steps
BAR = 1.9

Nodes: TypeAlias = tuple[tuple[float, float, float], ...]
# Maps a critic and rows to its normalised scores.
Normalised: TypeAlias = Callable[[nn.Module, Tensor], Tensor]


def attend_by_exponentials(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention whose forward-mode derivative can be differentiated."""
    products = q @ k.mT / q.shape[-1] ** 0.5
    weights = (products - products.detach().amax(-1, keepdim=True)).exp()
    return (weights / weights.sum(-1, keepdim=True)) @ v


def normalise_by_moments(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Return normalised rows whose forward-mode derivative can be differentiated."""
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return centred / deviation * norm.weight + norm.bias


MIX = partial(attend, twice_differentiable=True)


def composed(critic: nn.Module, mix: Mix = MIX) -> nn.Module:
    """Return a copy of an attention critic with operators of PyTorch alone."""
    twin: Any = copy.deepcopy(critic)
    assert isinstance(twin, AttentionCritic)
    options = twin.config
    grid = patch_grid(twin.shape, options["patch"], "composed")
    body = Patches(grid, options["width"], options["heads"], options["layers"], mix)
    body.load_state_dict(twin.body.state_dict())
    twin.body = body.to(twin.head.weight)
    return twin


def for_forward_mode(critic: nn.Module) -> nn.Module:
    """Return a copy of an attention critic whose forward-mode derivative can be differentiated.

    In PyTorch 2.13 that of softmax overwrites what its backward pass needs, and that of layer
    normalisation has a wrong gradient: it takes mean and deviation as constants.
    """
    twin = composed(critic, attend_by_exponentials)
    for module in twin.modules():
        if isinstance(module, nn.LayerNorm):
            vars(module)["forward"] = partial(normalise_by_moments, module)
    return twin


def double_backward(critic: nn.Module, x: Tensor) -> Tensor:
    """Return scores whose gradient in the weights takes a second-order pass."""
    return Score(critic, GradientNorm()).value(x)


def by_difference(nodes: Nodes, step: float, critic: nn.Module, x: Tensor) -> Tensor:
    """Return scores whose gradient in the weights is that of a difference quotient."""
    f, n, u = _unit_gradient(critic, x)
    points = [x + node * step * u for node, _, _ in nodes]
    values = scores(critic, torch.cat(points)).view(len(nodes), -1)
    weights = values.new_tensor(nodes)
    derivative = (weights[:, 1, None] * values).sum(0) / step
    value = (weights[:, 2, None] * values).sum(0)
    return _score(f, n, value, derivative)


def by_forward_mode(critic: nn.Module, x: Tensor) -> Tensor:
    """Return scores whose gradient in the weights is that of a forward-mode derivative."""
    f, n, u = _unit_gradient(critic, x)
    with forward_ad.dual_level():
        dual = scores(critic, forward_ad.make_dual(x, u))
        value, derivative = forward_ad.unpack_dual(dual)
    assert derivative is not None
    return _score(f, n, value, derivative)


def _unit_gradient(critic: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    f, g = differentiate(critic, x, create_graph=False)
    n = norms(g)
    return f, n, g / per_row(n, x)


def _score(f: Tensor, n: Tensor, value: Tensor, derivative: Tensor) -> Tensor:
    """Return GN's score with the gradients of a value and of a derivative along u."""
    rule = GradientNorm()
    slope = rule.slope(f, n)
    slope_of_norm = slope * rule.lever(f, n) * n
    change = slope * (value - value.detach()) + slope_of_norm * (derivative - derivative.detach())
    return rule(f, n) + change


def critic_step(critic: nn.Module, score: Normalised, x: Tensor) -> Callable[[], None]:
    """Return loss and backward pass of a critic on rows, half of them real."""

    def step() -> None:
        critic.zero_grad(set_to_none=True)
        real, fake = score(critic, x).chunk(2)
        torch.autograd.backward(critic_loss("hinge", real, fake))

    return step


def distance(critic: nn.Module, score: Normalised, x: Tensor, exact: Tensor) -> float:
    """Return the relative distance of the gradient of a critic step."""
    critic_step(critic, score, x)()
    return ((gradient_of(critic) - exact).norm() / exact.norm()).item()


def gradient_of(critic: nn.Module) -> Tensor:
    """Return all gradients of the critic in one vector, in float64; 0 of unused weights."""
    parts = []
    for parameter in critic.parameters():
        grad = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        parts.append(grad.double().flatten())
    return torch.cat(parts)


def distances(critic: nn.Module, x: Tensor) -> tuple[JsonObject, dict[str, float]]:
    """Return each way's distance in float32 and float64, and the best steps in float32."""
    exact_critic = composed(critic).double()
    critic_step(exact_critic, double_backward, x.double())()
    exact = gradient_of(exact_critic)
    table: JsonObject = {"own": {}, "composed": {}, "forward mode": {}}
    best_steps: dict[str, float] = {}
    for dtype in (torch.float32, torch.float64):
        own = copy.deepcopy(critic).to(dtype)
        plain = composed(own)
        rows = x.to(dtype)
        name = str(dtype).removeprefix("torch.")
        table["own"][name] = distance(own, double_backward, rows, exact)
        table["composed"][name] = distance(plain, double_backward, rows, exact)
        dual = for_forward_mode(own)
        table["forward mode"][name] = distance(dual, by_forward_mode, rows, exact)
        for way, nodes in DIFFERENCES.items():
            by_step = {}
            for step in STEPS:
                score = partial(by_difference, nodes, step)
                by_step[step] = distance(own, score, rows, exact)
            best = min(by_step, key=by_step.__getitem__)
            table.setdefault(way, {})[name] = {"step": best, "distance": by_step[best]}
            best_steps.setdefault(way, best)
    return table, best_steps


def critics(x: Tensor, steps: Mapping[str, float], rounds: int) -> JsonObject:
    """Time the critic step of each way."""
    _, critic = players(NETWORK, spectral=False)
    ways: dict[str, tuple[nn.Module, Normalised]] = {
        "bare": (critic, scores),
        "bare, composed": (composed(critic), scores),
        "own": (critic, double_backward),
        "composed": (composed(critic), double_backward),
        "forward mode": (for_forward_mode(critic), by_forward_mode),
    }
    for name, nodes in DIFFERENCES.items():
        ways[name] = (critic, partial(by_difference, nodes, steps[name]))
    contestants = {}
    for name, (network, score) in ways.items():
        contestants[name] = critic_step(network, score, x)
    return _over_reference(compare(contestants, rounds, clock="cpu"))


def training(real: Tensor, rounds: int) -> JsonObject:
    """Time generator steps and iterations, bare and normalised, with both kinds of operators."""
    z = torch.randn(BATCH, LATENT)
    generator_steps: dict[str, Callable[[], object]] = {}
    iterations: dict[str, Callable[[], object]] = {}
    for name, method in METHODS_COMPARED.items():
        recipe = METHODS[method]
        for suffix, build in (("", lambda critic: critic), (", composed", composed)):
            generator, critic = players(NETWORK, spectral=False)
            critic = build(critic).requires_grad_(requires_grad=False)
            score = partial(_generator_score, recipe.rule)
            generator_steps[name + suffix] = generator_step(generator, critic, score, z)
            generator, critic = players(NETWORK, spectral=False)
            trainer = WGAN(generator, build(critic), recipe)
            iterations[name + suffix] = partial(trainer.step, real)
    iteration_times = compare(iterations, rounds, clock="cpu")
    table = {
        "generator": _over_reference(compare(generator_steps, rounds, clock="cpu")),
        "iteration": _over_reference(iteration_times),
    }
    table["iteration"]["GN"]["bar"] = BAR
    for name in ("bare", "GN", "GraN"):
        before = iteration_times["bare, composed"]["milliseconds"]
        own = iteration_times[name]
        own["median_over_composed_bare"] = own["milliseconds"] / before
    return table


def _generator_score(rule: GradientNorm | None, critic: nn.Module, x: Tensor) -> Tensor:
    return Score(critic, rule).for_generator(x)


def _over_reference(table: dict[str, JsonObject]) -> JsonObject:
    """Replace each ratio by quartiles of the time over that of the reference."""
    for row in table.values():
        if "ratio" in row:
            lower, median, upper = row.pop("ratio")
            row["over_bare"] = (1 / upper, 1 / median, 1 / lower)
    return table


def shares(x: Tensor) -> JsonObject:
    """Return the operators of a critic step with the largest shares of its time."""
    _, critic = players(NETWORK, spectral=False)
    result: JsonObject = {}
    ways = {
        "bare": (critic, scores),
        "own": (critic, double_backward),
        "composed": (composed(critic), double_backward),
    }
    for name, (network, score) in ways.items():
        step = critic_step(network, score, x)
        step()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(PROFILED):
                step()
        events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        rows = []
        for event in events[:SHARES]:
            share = event.self_cpu_time_total / total
            calls = event.count / PROFILED
            rows.append({"operator": event.key, "share": share, "calls": calls})
        result[name] = rows
    return result


def main() -> None:
    """Measure all ways and write the table as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each contestant")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    real = 2 * torch.rand(BATCH, *NETWORKS[NETWORK]["shape"]) - 1
    fake = 2 * torch.rand(BATCH, *NETWORKS[NETWORK]["shape"]) - 1
    x = torch.cat((real, fake))
    _, critic = players(NETWORK, spectral=False)
    distance_table, steps = distances(critic, x)
    result = {
        "distances": distance_table,
        "critic": critics(x, steps, arguments.rounds),
        **training(real, arguments.rounds),
        "shares": shares(x),
    }
    report("attention_critics", result, arguments.out)


if __name__ == "__main__":
    main()
