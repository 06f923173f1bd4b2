"""What a step of each method costs on each network, over a plain one.

Methods: gradient normalisation (``gn``, ``gran``), gradient penalties (``gp``, ``lp``), spectral
norm (``sn``), R1 by itself or with R2 on relativistic pairs (``r1``, ``r1r2``), weight clipping
(``clip``), WGAN-div (``div``), and gn with consistency (``gn-cr``). ``plain`` has nothing that
holds the critic: the reference. Networks: those of :mod:`gan.networks`, fully connected and
convolutional ones of 28x28 grey pixels, residual and attention ones of 32x32 in colour.

``critic``      loss and backward pass of a critic step, of 64 real and 64 generated data
``generator``   forward and backward pass of a generator step
``iteration``   a critic step and a generator step, with optimizers and what follows them: clipping, say

Times are processor time of one thread, contestants in turn; a ratio is given with its quartiles
over the rounds. ``python -m experiments.studies.wgan_cost --results
experiments/results/wgan_cost.json``
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks.gan_step import critic_step, generator_step
from experiments.benchmarks.harness import compare, report
from gan import WGAN, Penalties, Recipe, build, normalize_for_generator, spectral_normalize
from gan.critic_loss import CriticLoss

BATCH = 64
LATENT = 64
PLAIN = Recipe(normalization="none")
WASSERSTEIN = replace(PLAIN, loss="wasserstein")
METHODS: dict[str, Recipe] = {
    "plain": PLAIN,
    "gn": Recipe(),
    "gran": Recipe(normalization="gran"),
    "gp": replace(WASSERSTEIN, penalties=Penalties(gp=10.0)),
    "lp": replace(WASSERSTEIN, penalties=Penalties(lp=10.0)),
    "sn": PLAIN,
    "r1": replace(PLAIN, loss="non-saturating", penalties=Penalties(r1=1.0)),
    "r1r2": replace(PLAIN, loss="relativistic", penalties=Penalties(r1=1.0, r2=1.0)),
    "clip": replace(WASSERSTEIN, penalties=Penalties(clip=0.01)),
    "div": replace(WASSERSTEIN, penalties=Penalties(div=2.0)),
    "gn-cr": Recipe(penalties=Penalties(cr=5.0)),
}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"family": "MLP", "shape": (1, 28, 28)},
    "conv": {"family": "Conv", "shape": (1, 28, 28), "width": 16},
    "resnet": {"family": "ResNet", "shape": (3, 32, 32), "width": 16},
    "attention": {"family": "Attention", "shape": (3, 32, 32), "width": 32},
}


def players(network: str, spectral: bool) -> tuple[nn.Module, nn.Module]:
    """A generator and its critic, the same at every call."""
    torch.manual_seed(0)
    options = dict(NETWORKS[network])
    family = options.pop("family")
    generator = build({"network": f"{family}Generator", "latent": LATENT, **options})
    critic = build({"network": f"{family}Critic", **options})
    return generator, spectral_normalize(critic) if spectral else critic


def measure(network: str, methods: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """One row a method: milliseconds, and the time of each part over the plain one's as (25 %, median, 75 %)."""
    steps: dict[str, dict[str, Callable[[], Any]]] = {
        "critic": {},
        "generator": {},
        "iteration": {},
    }
    shape = NETWORKS[network]["shape"]
    real, fake = (2 * torch.rand(BATCH, *shape) - 1 for _ in range(2))
    z = torch.randn(BATCH, LATENT)
    for method in dict.fromkeys(("plain", *methods)):
        recipe = METHODS[method]
        steps["critic"][method] = critic_step(
            CriticLoss(players(network, method == "sn")[1], recipe), real, fake
        )
        generator, critic = players(network, method == "sn")
        critic.requires_grad_(False)
        steps["generator"][method] = generator_step(generator, critic, score(recipe, real), z)
        trainer = WGAN(*players(network, method == "sn"), recipe)
        steps["iteration"][method] = partial(trainer.step, real)
    timed = {part: compare(contestants, rounds, clock="cpu") for part, contestants in steps.items()}
    return [
        {"network": network, "method": method} | _row(timed, method) for method in steps["critic"]
    ]


def score(recipe: Recipe, real: Tensor) -> Callable[[nn.Module, Tensor], Tensor]:
    """What a generator ascends, as far as it costs time: relativistic pairs score the real data too."""
    if recipe.rule is not None:
        return partial(normalize_for_generator, method=recipe.rule.method)
    if recipe.loss != "relativistic":
        return lambda critic, x: critic(x)

    def paired(critic: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            other = critic(real)
        return critic(x) - other

    return paired


def _row(timed: Mapping[str, Mapping[str, Any]], method: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for part, table in timed.items():
        row[f"{part}_milliseconds"] = table[method]["milliseconds"]
        if "ratio" in table[method]:
            low, middle, high = table[method]["ratio"]  # the reference's time over this one's
            row[f"{part}_over_plain"] = (1 / high, 1 / middle, 1 / low)
    return row


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table as text: the median ratio and its quartiles."""
    parts = ("critic", "generator", "iteration")
    out = [f"{'network':<10} {'method':<7}" + "".join(f"{part:>20}" for part in parts)]
    for row in rows:
        cells = [row.get(f"{part}_over_plain") for part in parts]
        said = [f"{c[1]:.2f} ({c[0]:.2f}-{c[2]:.2f})" if c else "1" for c in cells]
        out.append(
            f"{row['network']:<10} {row['method']:<7}" + "".join(f"{cell:>20}" for cell in said)
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        row for network in given.networks for row in measure(network, given.methods, given.rounds)
    ]
    print("\n".join(lines(rows)), file=sys.stderr)
    report("wgan_cost", {"batch": BATCH, "table": rows}, given.results, kind="study")


if __name__ == "__main__":
    main()
