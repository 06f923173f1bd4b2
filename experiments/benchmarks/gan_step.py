"""Time of a step of gradient normalisation, and the saving of its one-pass generator step.

``critic``      a critic step of GN over one of WGAN-GP, of 64 real and 64 generated images; bar 1.0
``generator``   a generator step of GN over a plain one (spectral norm's); bar 1.1
``published``   the published second-order generator step over the one-pass step; bar 1.25
``iteration``   a whole iteration of GN over one of spectral norm; bar 1.4
``layout``      an iteration with weights laid out channels first over one with channels last
``compiled``    a second-order critic step by ``torch.func.vjp``, plain and compiled, over this one

The networks are the DCGAN of :mod:`gan.networks` at 28x28 pixels. Times are processor time of one
thread; contestants alternate within a round.

``python -m experiments.benchmarks.gan_step``
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from experiments.benchmarks.harness import compare, report
from gan import (
    WGAN,
    Penalties,
    Recipe,
    build,
    normalize_for_generator,
    normalize_gradient,
    spectral_normalize,
)
from gan.critic_loss import CriticLoss
from gan.losses import critic_loss
from gan.normalization.derivatives import norms
from gan.normalization.rules import GradientNorm
from univae.checkpoint import JsonObject

# Maps weights and rows to normalised scores.
Scores: TypeAlias = Callable[[dict[str, Tensor], Tensor], Tensor]

BATCH = 64
LATENT = 64
SHAPE = (1, 28, 28)
SPECTRAL = "SN"  # the contestant with spectral norm
RECIPES = {
    "GN": Recipe(),
    "GraN": Recipe(normalization="gran"),
    "GP": Recipe(loss="wasserstein", normalization="none", penalties=Penalties(gp=10.0)),
    "R1+R2": Recipe(loss="relativistic", normalization="none", penalties=Penalties(r1=1.0, r2=1.0)),
    SPECTRAL: Recipe(loss="hinge", normalization="none"),
}
# The largest accepted time over that of the reference.
CRITIC_BARS = {"GN": 1.0}
GENERATOR_BARS = {"GN, one pass": 1.1}
ITERATION_BARS = {"GN": 1.4}
# The least that the one-pass generator step must save over the second-order one.
PUBLISHED_BAR = 1.25


def players(width: int, *, spectral: bool = False) -> tuple[nn.Module, nn.Module]:
    """Return a generator and a critic with the same weights at every call."""
    torch.manual_seed(0)
    options = {"shape": SHAPE, "width": width}
    generator = build({"network": "ConvGenerator", "latent": LATENT, **options})
    critic = build({"network": "ConvCritic", **options})
    return generator, spectral_normalize(critic) if spectral else critic


def critics(width: int, rounds: int) -> JsonObject:
    """Time the loss and backward pass of each critic step."""
    contestants: dict[str, Callable[[], None]] = {}
    real = torch.rand(BATCH, *SHAPE)
    fake = torch.rand(BATCH, *SHAPE)
    for name in ("GP", "GN", "GraN", "R1+R2", SPECTRAL):
        _, critic = players(width, spectral=name == SPECTRAL)
        contestants[name] = critic_step(CriticLoss(critic, RECIPES[name]), real, fake)
    return with_bars(compare(contestants, rounds, clock="cpu"), CRITIC_BARS)


def generators(width: int, rounds: int) -> JsonObject:
    """Time the forward and backward pass of a generator step."""
    z = torch.randn(BATCH, LATENT)
    scores: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
        "plain": lambda critic, x: critic(x),
        "GN, one pass": normalize_for_generator,
        "GN, second order": normalize_gradient,
    }
    contestants = {}
    for name, score in scores.items():
        generator, critic = players(width)
        critic.requires_grad_(requires_grad=False)
        contestants[name] = generator_step(generator, critic, score, z)
    return with_bars(compare(contestants, rounds, clock="cpu"), GENERATOR_BARS)


def iterations(width: int, rounds: int) -> JsonObject:
    """Time a critic step and a generator step, optimizers included."""
    real = torch.rand(BATCH, *SHAPE) * 2 - 1
    contestants: dict[str, Callable[[], object]] = {}
    for name in (SPECTRAL, "GN", "GP", "R1+R2"):
        generator, critic = players(width, spectral=name == SPECTRAL)
        trainer = WGAN(generator, critic, RECIPES[name])
        contestants[name] = partial(trainer.step, real)
    return with_bars(compare(contestants, rounds, clock="cpu"), ITERATION_BARS)


def layouts(width: int, rounds: int) -> JsonObject:
    """Time an iteration of GP and of GN with channels last in memory, and with channels first."""
    real = torch.rand(BATCH, *SHAPE) * 2 - 1
    tables: JsonObject = {}
    for name in ("GP", "GN"):
        contestants: dict[str, Callable[[], object]] = {}
        for layout in (torch.channels_last, torch.contiguous_format):
            generator, critic = players(width)
            convert_conv2d_weight_memory_format(generator, layout)
            convert_conv2d_weight_memory_format(critic, layout)
            title = "channels last" if layout is torch.channels_last else "channels first"
            contestants[title] = partial(WGAN(generator, critic, RECIPES[name]).step, real)
        tables[name] = with_bars(compare(contestants, rounds, clock="cpu"), {})
    return tables


def compiled(width: int, rounds: int) -> JsonObject:
    """Time the loss and backward pass of a critic step of GN by three implementations.

    Compiling takes up to a minute.
    """
    real = torch.rand(BATCH, *SHAPE)
    fake = torch.rand(BATCH, *SHAPE)
    contestants = {
        "GN": critic_step(CriticLoss(players(width)[1], RECIPES["GN"]), real, fake),
        "vjp": functional_step(players(width)[1], real, fake),
        "vjp, compiled": functional_step(players(width)[1], real, fake, torch.compile),
    }
    return with_bars(compare(contestants, rounds, clock="cpu"), {})


def with_bars(table: dict[str, JsonObject], bars: dict[str, float]) -> JsonObject:
    """Add to each row its time over that of the reference, and the bar it should not exceed."""
    for name, row in table.items():
        if "ratio" not in row:
            continue
        row["time_over_reference"] = 1 / row["ratio"][1]
        if name in bars:
            row["bar"] = bars[name]
    return table


def critic_step(loss: CriticLoss, real: Tensor, fake: Tensor) -> Callable[[], None]:
    """Return the function to time: loss and backward pass of a critic."""
    noise = torch.Generator().manual_seed(0)

    def step() -> None:
        loss.zero_grad(set_to_none=True)
        value, _ = loss(real, fake, None, regularized=True, noise=noise)
        value.backward()

    return step


def functional_step(
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    wrap: Callable[[Scores], Scores] = lambda scores: scores,
) -> Callable[[], None]:
    """Return the second-order critic step of GN as a function of the weights, which compiles."""
    x = torch.cat((real, fake))
    rule = GradientNorm()

    def scores(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        def f(x: Tensor) -> Tensor:
            output: Tensor = torch.func.functional_call(critic, weights, (x,))
            return output.reshape(-1)

        value, vector_jacobian = torch.func.vjp(f, x)  # type: ignore[misc]
        (gradient,) = vector_jacobian(torch.ones_like(value))
        return rule(value, norms(gradient))

    wrapped = wrap(scores)

    def step() -> None:
        critic.zero_grad(set_to_none=True)
        real_score, fake_score = wrapped(dict(critic.named_parameters()), x).chunk(2)
        torch.autograd.backward(critic_loss("hinge", real_score, fake_score))

    return step


def generator_step(
    generator: nn.Module, critic: nn.Module, score: Callable[[nn.Module, Tensor], Tensor], z: Tensor
) -> Callable[[], None]:
    """Return forward and backward pass of a generator that maximises ``score(critic, x)``."""

    def step() -> None:
        generator.zero_grad(set_to_none=True)
        torch.autograd.backward(-score(critic, generator(z)).mean())

    return step


def main() -> None:
    """Time all steps and write the table as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each contestant")
    parser.add_argument("--width", type=int, default=16, help="channels of the networks")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    critic_times = critics(arguments.width, arguments.rounds)
    generator_times = generators(arguments.width, arguments.rounds)
    second_order = generator_times["GN, second order"]["milliseconds"]
    one_pass = generator_times["GN, one pass"]["milliseconds"]
    result = {
        "critic": critic_times,
        "generator": generator_times,
        "published": {
            "second order over one pass": second_order / one_pass,
            "at least": PUBLISHED_BAR,
        },
        "iteration": iterations(arguments.width, arguments.rounds),
        "layout": layouts(arguments.width, arguments.rounds),
        "compiled": compiled(arguments.width, arguments.rounds),
    }
    report("gan_step", result, arguments.out)


if __name__ == "__main__":
    main()
