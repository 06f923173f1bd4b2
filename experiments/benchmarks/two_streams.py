"""Training step of a UniVAE: two streams against the published dense (2n)^2 mask, same weights.

The dense version is the tests' plain twin and has the same outputs:
``python -m experiments.benchmarks.two_streams``.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution

from experiments.benchmarks.harness import compare, report
from univae.checkpoint import JsonObject
from univae.text.special import END
from univae.vae.dense import dense
from univae.vae.likelihood import text_log_prob
from univae.vae.model import UniVAE, UniVAEConfig

# Chooses the latent of a layer from its posterior conditional.
Choose: TypeAlias = Callable[[int, Distribution], Tensor]
# Maps ids, targets and a choice of latents to logits.
Run: TypeAlias = Callable[[Tensor, Tensor, Choose], Tensor]


@dataclass(frozen=True)
class Case:
    """A length of texts in tokens, a batch size, and the speed-up to reach."""

    n: int
    batch: int
    bar: float


CASES = (Case(32, 32, 1.10), Case(128, 8, 1.25), Case(512, 2, 1.60))


def contest(case: Case, rounds: int) -> JsonObject:
    """Time a model of width 128 with 6 layers, 2 of them latent.

    For texts of n tokens the dense mask is (2n + 1) x (2n + 1).
    """
    torch.manual_seed(0)
    model = UniVAE(UniVAEConfig(512, 128, 4, 6, 2, 16, max_length=case.n))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    ids = torch.randint(END + 1, 512, (case.batch, case.n))
    z = torch.randn(case.batch, 2, 16)

    def run_dense(ids: Tensor, target: Tensor, choose: Choose) -> Tensor:
        return dense(model, ids, target, choose)[2]

    def run_two_streams(ids: Tensor, target: Tensor, choose: Choose) -> Tensor:
        return model.two_streams(ids, target, choose)[2]

    def step(run: Run) -> Tensor:
        logits = run(ids, ids, lambda layer, q: q.rsample())
        loss = -text_log_prob(logits, ids).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    with torch.no_grad():
        difference = _logits(run_dense, ids, z) - _logits(run_two_streams, ids, z)
    contestants = {
        "dense": lambda: step(run_dense),
        "two_streams": lambda: step(run_two_streams),
    }
    times = compare(contestants, rounds)
    return {
        "n": case.n,
        "batch": case.batch,
        "bar": case.bar,
        "largest_difference": difference.abs().max().item(),
        **times,
    }


def _logits(run: Run, ids: Tensor, z: Tensor) -> Tensor:
    return run(ids, ids, lambda layer, q: z[:, layer])[..., END:]


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = [contest(case, arguments.rounds) for case in CASES]
    report("two_streams", results, arguments.out)


if __name__ == "__main__":
    main()
