"""What a step of gradient normalisation costs, beside its rivals, and what its one-pass generator step saves.

``critic``      a critic step of GN over one of WGAN-GP, of 64 real and 64 generated images; bar 1.0
``generator``   a generator step of GN over a plain one (spectral norm's); bar 1.1
``published``   the second-order generator step that the authors published over ours; bar 1.25
``iteration``   a whole iteration of GN over one of spectral norm; bar 1.4
``compiled``    a second-order critic step through ``torch.func.vjp``, as it is and by ``torch.compile``, over ours

With the DCGAN of :mod:`gan.networks` at 28x28 pixels. Times are CPU time of one thread, contestants
in turn. ``python -m experiments.benchmarks.gan_step``
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

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
from gan.normalization.gradient import GradientNorm, norms

# weights and data to normalised scores
Scores: TypeAlias = Callable[[dict[str, Tensor], Tensor], Tensor]

BATCH = 64
LATENT = 64
PLAIN: dict[str, Any] = {"loss": "hinge", "normalization": "none"}
RECIPES = {
    "GN": Recipe(),
    "GraN": Recipe(normalization="gran"),
    "GP": Recipe(loss="wasserstein", normalization="none", penalties=Penalties(gp=10.0)),
    "R1+R2": Recipe(loss="relativistic", normalization="none", penalties=Penalties(r1=1.0, r2=1.0)),
    "SN": Recipe(**PLAIN),
}


def players(width: int, spectral: bool = False) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    options = {"shape": (1, 28, 28), "width": width}
    generator = build({"network": "ConvGenerator", "latent": LATENT, **options})
    critic = build({"network": "ConvCritic", **options})
    return generator, spectral_normalize(critic) if spectral else critic


def critics(width: int, rounds: int) -> dict[str, Any]:
    """Loss and backward pass of each critic step."""
    contestants: dict[str, Callable[[], None]] = {}
    real = torch.rand(BATCH, 1, 28, 28)
    fake = torch.rand(BATCH, 1, 28, 28)
    for name in ("GP", "GN", "GraN", "R1+R2", "SN"):
        _, critic = players(width, spectral=name == "SN")
        contestants[name] = critic_step(CriticLoss(critic, RECIPES[name]), real, fake)
    return against(compare(contestants, rounds, clock="cpu"), {"GN": 1.0})


def generators(width: int, rounds: int) -> dict[str, Any]:
    """Forward and backward pass of a generator step."""
    z = torch.randn(BATCH, LATENT)
    ways: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
        "plain": lambda critic, x: critic(x),
        "GN, one pass": normalize_for_generator,
        "GN, second order": normalize_gradient,
    }
    contestants = {}
    for name, score in ways.items():
        generator, critic = players(width)
        critic.requires_grad_(False)
        contestants[name] = generator_step(generator, critic, score, z)
    return against(compare(contestants, rounds, clock="cpu"), {"GN, one pass": 1.1})


def iterations(width: int, rounds: int) -> dict[str, Any]:
    """A critic step and a generator step, optimizers included."""
    real = torch.rand(BATCH, 1, 28, 28) * 2 - 1
    contestants = {}
    for name in ("SN", "GN", "GP", "R1+R2"):
        trainer = WGAN(*players(width, spectral=name == "SN"), RECIPES[name])
        contestants[name] = lambda trainer=trainer: trainer.step(real)
    return against(compare(contestants, rounds, clock="cpu"), {"GN": 1.4})


def compiled(width: int, rounds: int) -> dict[str, Any]:
    """Loss and backward pass of a critic step of GN, in three ways.

    Compiling takes up to a minute.
    """
    real = torch.rand(BATCH, 1, 28, 28)
    fake = torch.rand(BATCH, 1, 28, 28)
    contestants = {
        "GN": critic_step(CriticLoss(players(width)[1], RECIPES["GN"]), real, fake),
        "vjp": functional_step(players(width)[1], real, fake),
        "vjp, compiled": functional_step(players(width)[1], real, fake, torch.compile),
    }
    return against(compare(contestants, rounds, clock="cpu"), {})


def against(table: dict[str, Any], bars: dict[str, float]) -> dict[str, Any]:
    """Add each one's time over the first's, and the bar it should not exceed."""
    for name, row in table.items():
        if "ratio" in row:
            row["time_over_reference"] = 1 / row["ratio"][1]
            row |= {"bar": bars[name]} if name in bars else {}
    return table


def critic_step(loss: CriticLoss, real: Tensor, fake: Tensor) -> Callable[[], None]:
    """Loss and backward pass of a critic, ready to be timed."""
    noise = torch.Generator().manual_seed(0)

    def step() -> None:
        loss.zero_grad(set_to_none=True)
        loss(real, fake, None, True, noise)[0].backward()

    return step


def functional_step(
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    wrap: Callable[[Scores], Scores] = lambda scores: scores,
) -> Callable[[], None]:
    """The second-order critic step of GN as a function of the weights, which is what can be compiled."""
    x = torch.cat((real, fake))
    rule = GradientNorm()

    def scores(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        found = torch.func.vjp(
            lambda x: torch.func.functional_call(critic, weights, (x,)).reshape(-1), x
        )
        return rule(found[0], norms(found[1](torch.ones_like(found[0]))[0]))

    wrapped = wrap(scores)

    def step() -> None:
        critic.zero_grad(set_to_none=True)
        critic_loss("hinge", *wrapped(dict(critic.named_parameters()), x).chunk(2)).backward()

    return step


def generator_step(
    generator: nn.Module, critic: nn.Module, score: Callable[[nn.Module, Tensor], Tensor], z: Tensor
) -> Callable[[], None]:
    """Forward and backward pass of a generator, ready to be timed.

    ``score(critic, x)`` is what it ascends.
    """

    def step() -> None:
        generator.zero_grad(set_to_none=True)
        (-score(critic, generator(z)).mean()).backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "critic": critics(given.width, given.rounds),
        "generator": generators(given.width, given.rounds),
    }
    rows = found["generator"]
    over = rows["GN, second order"]["milliseconds"] / rows["GN, one pass"]["milliseconds"]
    found["published"] = {"second order over one pass": over, "at least": 1.25}
    found |= {
        "iteration": iterations(given.width, given.rounds),
        "compiled": compiled(given.width, given.rounds),
    }
    report("gan_step", found, given.out)


if __name__ == "__main__":
    main()
