"""Time of a training step of each method on each network, over that of a plain GAN.

Methods: gradient normalisation (``gn``, ``gran``), gradient penalties (``gp``, ``lp``), spectral
norm (``sn``), R1 alone or with R2 on relativistic pairs (``r1``, ``r1r2``), weight clipping
(``clip``), WGAN-div (``div``), and gn with consistency (``gn-cr``). ``plain``, the reference, has
no bound of the critic. The networks are those of :mod:`gan.networks`: fully connected and
convolutional for 28x28 grey pixels, residual and attention for 32x32 pixels in colour.

``critic``      loss and backward pass of a critic step, of 64 real and 64 generated rows
``generator``   forward and backward pass of a generator step
``iteration``   a critic step and a generator step, with optimizers, clipping and rescaling

Times are processor time of one thread; methods alternate within a round, and a ratio has its
quartiles over the rounds.

``python -m experiments.studies.wgan_cost --results experiments/results/wgan_cost.json``
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.benchmarks.gan_step import critic_step, generator_step
from experiments.benchmarks.harness import compare, report
from gan import WGAN, Penalties, Recipe, spectral_normalize
from gan.critic_loss import CriticLoss
from gan.losses import LOSSES
from gan.networks.registry import NETWORKS as FAMILIES
from gan.normalization.score import Score
from univae.checkpoint import JsonObject

BATCH = 64
LATENT = 64
REFERENCE = "plain"
SPECTRAL = "sn"  # the method with spectral norm
PLAIN = Recipe(normalization="none")
WASSERSTEIN = replace(PLAIN, loss="wasserstein")
METHODS: dict[str, Recipe] = {
    REFERENCE: PLAIN,
    "gn": Recipe(),
    "gran": Recipe(normalization="gran"),
    "gp": replace(WASSERSTEIN, penalties=Penalties(gp=10.0)),
    "lp": replace(WASSERSTEIN, penalties=Penalties(lp=10.0)),
    SPECTRAL: PLAIN,
    "r1": replace(PLAIN, loss="non-saturating", penalties=Penalties(r1=1.0)),
    "r1r2": replace(PLAIN, loss="relativistic", penalties=Penalties(r1=1.0, r2=1.0)),
    "clip": replace(WASSERSTEIN, penalties=Penalties(clip=0.01)),
    "div": replace(WASSERSTEIN, penalties=Penalties(div=2.0)),
    "gn-cr": Recipe(penalties=Penalties(cr=5.0)),
}
NETWORKS: dict[str, JsonObject] = {
    "mlp": {"shape": (1, 28, 28)},
    "conv": {"shape": (1, 28, 28), "width": 16},
    "resnet": {"shape": (3, 32, 32), "width": 16},
    "attention": {"shape": (3, 32, 32), "width": 32},
}
STEPS = ("critic", "generator", "iteration")


def players(network: str, *, spectral: bool) -> tuple[nn.Module, nn.Module]:
    """Return a generator and its critic with the same weights at every call."""
    torch.manual_seed(0)
    family = FAMILIES[network]
    generator = family.generator(latent=LATENT, **NETWORKS[network])
    critic = family.critic(**NETWORKS[network])
    return generator, spectral_normalize(critic) if spectral else critic


def measure(network: str, methods: Sequence[str], rounds: int) -> list[JsonObject]:
    """Return a row per method: milliseconds, and quartiles of the time over the reference's."""
    shape = NETWORKS[network]["shape"]
    real = 2 * torch.rand(BATCH, *shape) - 1
    fake = 2 * torch.rand(BATCH, *shape) - 1
    z = torch.randn(BATCH, LATENT)
    contestants: dict[str, dict[str, Callable[[], object]]] = {step: {} for step in STEPS}
    for method in dict.fromkeys((REFERENCE, *methods)):
        recipe = METHODS[method]
        spectral = method == SPECTRAL
        _, critic = players(network, spectral=spectral)
        contestants["critic"][method] = critic_step(CriticLoss(critic, recipe), real, fake)
        generator, critic = players(network, spectral=spectral)
        critic.requires_grad_(requires_grad=False)
        score = generator_score(recipe, real)
        contestants["generator"][method] = generator_step(generator, critic, score, z)
        trainer = WGAN(*players(network, spectral=spectral), recipe)
        contestants["iteration"][method] = partial(trainer.step, real)

    times = {}
    for step, by_method in contestants.items():
        times[step] = compare(by_method, rounds, clock="cpu")
    rows = []
    for method in contestants["critic"]:
        rows.append({"network": network, "method": method} | _row(times, method))
    return rows


def generator_score(recipe: Recipe, real: Tensor) -> Callable[[nn.Module, Tensor], Tensor]:
    """Return the score that a generator step maximises; paired losses also score the real rows."""
    pairs = LOSSES[recipe.loss].pairs

    def score(critic: nn.Module, x: Tensor) -> Tensor:
        scores = Score(critic, recipe.rule)
        if not pairs:
            return scores.for_generator(x)
        with torch.no_grad():
            real_score = scores.value(real)
        return scores.for_generator(x) - real_score

    return score


def _row(times: Mapping[str, Mapping[str, JsonObject]], method: str) -> JsonObject:
    row: JsonObject = {}
    for step, table in times.items():
        row[f"{step}_milliseconds"] = table[method]["milliseconds"]
        if method != REFERENCE:
            low, median, high = table[method]["ratio"]  # time of the reference over the method's
            row[f"{step}_over_plain"] = (1 / high, 1 / median, 1 / low)
    return row


def lines(rows: Sequence[JsonObject]) -> list[str]:
    """Return the table as text: the median ratio and its quartiles."""
    text = [f"{'network':<10} {'method':<7}" + "".join(f"{step:>20}" for step in STEPS)]
    for row in rows:
        cells = [_ratio_text(row.get(f"{step}_over_plain")) for step in STEPS]
        name = f"{row['network']:<10} {row['method']:<7}"
        text.append(name + "".join(f"{cell:>20}" for cell in cells))
    return text


def _ratio_text(ratio: tuple[float, float, float] | None) -> str:
    if ratio is None:
        return "1"
    low, median, high = ratio
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Time all methods on all networks, print the table and write it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each method")
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[JsonObject] = []
    for network in arguments.networks:
        rows += measure(network, arguments.methods, arguments.rounds)
    print("\n".join(lines(rows)), file=sys.stderr)
    report("wgan_cost", {"batch": BATCH, "table": rows}, arguments.results, kind="study")


if __name__ == "__main__":
    main()
