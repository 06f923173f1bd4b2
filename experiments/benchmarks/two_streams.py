"""Training step of a UniVAE: two streams, compared with the published dense (2n)^2 mask.

Both use the same weights and have the same outputs. The dense version is also the reference
implementation of the tests.

``python -m experiments.benchmarks.two_streams``
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

Choose: TypeAlias = Callable[[int, Distribution], Tensor]  # the latent of a layer
# Maps ids, targets and a choice of latents to posteriors, latents and logits.
Run: TypeAlias = Callable[[Tensor, Tensor, Choose], tuple[list[Distribution], Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """A length of texts in tokens, a batch size, and the target of the speed-up."""

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

    def run_dense(
        ids: Tensor, target: Tensor, choose: Choose
    ) -> tuple[list[Distribution], Tensor, Tensor]:
        posteriors, latents, logits, _ = dense(model, ids, target, choose)
        return posteriors, latents, logits

    def step(run: Run) -> Tensor:
        logits = run(ids, ids, lambda layer, q: q.rsample())[2]
        loss = -text_log_prob(logits, ids).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    with torch.no_grad():
        difference = _logits(run_dense, ids, z) - _logits(model.two_streams, ids, z)
    contestants = {
        "dense": lambda: step(run_dense),
        "two_streams": lambda: step(model.two_streams),
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
    logits: Tensor = run(ids, ids, lambda layer, q: z[:, layer])[2]
    return logits[..., END:]


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25, help="timed steps of each version")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    results = [contest(case, arguments.rounds) for case in CASES]
    report("two_streams", results, arguments.out)


if __name__ == "__main__":
    main()
