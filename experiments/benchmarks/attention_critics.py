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
distance from the double backward pass in float64: ``distances``, of all weights together. In
float32 even ``composed`` is at a distance from it, because the loss is a difference of means; the
distance of both kinds of operators in the same precision is ``own from composed``. Steps h are the
best of a few. ``generator`` and ``iteration`` have the steps of a training, ``shares`` the
operators of ``own`` with the largest shares of its time. ``sizes`` compares ``own``, which small
inputs do not take, with ``composed`` on critics of other sizes.

The networks are those of :mod:`gan.networks` for 32x32 pixels in colour, with batches of 64. Times
are processor time of one thread; contestants alternate within a round.

``python -m experiments.benchmarks.attention_critics``
"""

import argparse
import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.attention_critic_ways import (
    DIFFERENCES,
    Normalised,
    by_difference,
    by_forward_mode,
    composed,
    double_backward,
    for_forward_mode,
)
from experiments.benchmarks.gan_step import BATCH, LATENT, generator_step
from experiments.benchmarks.harness import compare, report
from gan import WGAN, Recipe
from gan.losses import critic_loss
from gan.networks.attention import AttentionCritic, AttentionGenerator
from gan.normalization.derivatives import scores
from gan.normalization.rules import GradientNorm
from gan.normalization.score import Score
from univae.checkpoint import JsonObject

SHAPE = (3, 32, 32)
WIDTH = 32
RECIPES = {
    "bare": Recipe(normalization="none"),
    "GN": Recipe(),
    "GraN": Recipe(normalization="gran"),
}
STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # h, of images of norm 32
# Options of critics, rows of a batch, and precision.
SIZES: dict[str, tuple[JsonObject, int, torch.dtype]] = {
    "8x8, 16 rows": ({"shape": (1, 8, 8), "width": 16}, 16, torch.float32),
    "28x28, width 64": ({"shape": (1, 28, 28), "width": 64}, 64, torch.float32),
    "28x28, width 64, float64": ({"shape": (1, 28, 28), "width": 64}, 64, torch.float64),
    "32x32, width 128": ({"shape": (3, 32, 32), "width": 128}, 32, torch.float32),
    "32x32, 256 patches": ({"shape": (3, 32, 32), "width": 32, "patch": 2}, 32, torch.float32),
}
SHARES = 12  # operators that are reported
PROFILED = 8  # steps
BAR = 1.9


def players() -> tuple[nn.Module, nn.Module]:
    """Return a generator and its critic with the same weights at every call."""
    torch.manual_seed(0)
    generator = AttentionGenerator(SHAPE, latent=LATENT, width=WIDTH)
    return generator, AttentionCritic(SHAPE, width=WIDTH)


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
    table: JsonObject = {
        "own": {},
        "composed": {},
        "own from composed": {},
        "forward mode": {},
    }
    best_steps: dict[str, float] = {}
    for dtype in (torch.float32, torch.float64):
        own = copy.deepcopy(critic).to(dtype)
        plain = composed(own)
        rows = x.to(dtype)
        name = str(dtype).removeprefix("torch.")
        table["own"][name] = distance(own, double_backward, rows, exact)
        table["composed"][name] = distance(plain, double_backward, rows, exact)
        difference = gradient_of(own) - gradient_of(plain)
        table["own from composed"][name] = (difference.norm() / exact.norm()).item()
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
    _, critic = players()
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
    for name, recipe in RECIPES.items():
        for suffix, build in (("", lambda critic: critic), (", composed", composed)):
            generator, critic = players()
            critic = build(critic).requires_grad_(requires_grad=False)
            score = partial(_generator_score, recipe.rule)
            generator_steps[name + suffix] = generator_step(generator, critic, score, z)
            generator, critic = players()
            trainer = WGAN(generator, build(critic), recipe)
            iterations[name + suffix] = partial(trainer.step, real)
    iteration_times = compare(iterations, rounds, clock="cpu")
    table = {
        "generator": _over_reference(compare(generator_steps, rounds, clock="cpu")),
        "iteration": _over_reference(iteration_times),
    }
    table["iteration"]["GN"]["bar"] = BAR
    for name in RECIPES:
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


def sizes(rounds: int) -> JsonObject:
    """Time critic steps of other sizes, bare and normalised, with both kinds of operators."""
    result: JsonObject = {}
    for name, (options, rows, dtype) in SIZES.items():
        torch.manual_seed(0)
        critic = AttentionCritic(**options).to(dtype)
        x = torch.randn(rows, *critic.shape, dtype=dtype)
        for way, score in (("bare", scores), ("GN", double_backward)):
            contestants = {
                "own": critic_step(critic, score, x),
                "composed": critic_step(composed(critic), score, x),
            }
            times = compare(contestants, rounds, clock="cpu")
            lower, median, upper = times["composed"]["ratio"]
            result.setdefault(name, {})[way] = {
                "milliseconds": times["own"]["milliseconds"],
                "composed_over_own": (1 / upper, 1 / median, 1 / lower),
            }
    return result


def shares(x: Tensor) -> JsonObject:
    """Return the operators of a critic step with the largest shares of its time."""
    _, critic = players()
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
    real = 2 * torch.rand(BATCH, *SHAPE) - 1
    fake = 2 * torch.rand(BATCH, *SHAPE) - 1
    x = torch.cat((real, fake))
    _, critic = players()
    distance_table, steps = distances(critic, x)
    result = {
        "distances": distance_table,
        "critic": critics(x, steps, arguments.rounds),
        **training(real, arguments.rounds),
        "sizes": sizes(arguments.rounds),
        "shares": shares(x),
    }
    report("attention_critics", result, arguments.out)


if __name__ == "__main__":
    main()
