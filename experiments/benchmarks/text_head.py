"""Log-probabilities of targets by blocks of rows, beside all logits at once: time and memory.

A row is the forward and backward pass of the output head for a batch of tokens; ``ratio`` is the
processor time of all logits at once over that by blocks. ``mebibytes`` is the memory that a first
pass takes beside the weights.

``python -m experiments.benchmarks.text_head``
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.attention.target_log_prob import target_log_prob
from univae.checkpoint import JsonObject

__all__ = ["main"]

MEBIBYTE = 2**20
FORKS = get_context("fork")

LogProb: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Case(NamedTuple):
    """A batch of tokens, and the vocabulary."""

    tokens: int
    width: int
    vocabulary: int


CASES: Sequence[Case] = (
    Case(1024, 128, 300),  # bytes
    Case(1024, 128, 4096),  # BPE
    Case(1024, 128, 10_000),  # words of PTB
    Case(4096, 256, 8192),
    Case(512, 768, 13_584),  # RoFormer's vocabulary
)


def plain(x: Tensor, table: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probabilities from all logits at once."""
    return -F.cross_entropy(F.linear(x, table, bias), targets, reduction="none")


CONTESTANTS: dict[str, LogProb] = {"all at once": plain, "by blocks": target_log_prob}


def contest(case: Case, rounds: int) -> JsonObject:
    """Time both versions, and compare their values and memory."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.tokens, case.width, generator=generator)
    table = 0.02 * torch.randn(case.vocabulary, case.width, generator=generator)
    bias = torch.zeros(case.vocabulary)
    targets = torch.randint(case.vocabulary, (case.tokens,), generator=generator)
    weights = [argument.requires_grad_() for argument in (x, table, bias)]

    def step(log_prob: LogProb) -> tuple[Tensor, ...]:
        return torch.autograd.grad(log_prob(x, table, bias, targets).sum(), weights)

    steps = {name: partial(step, log_prob) for name, log_prob in CONTESTANTS.items()}
    mebibytes = {name: peak(one) / MEBIBYTE for name, one in steps.items()}
    expected, found = (one() for one in steps.values())
    differences = [(a - b).abs().max().item() for a, b in zip(expected, found, strict=True)]
    return {
        **case._asdict(),
        "largest_difference_of_a_gradient": max(differences),
        "mebibytes": mebibytes,
        **compare(steps, rounds, clock="cpu"),
    }


def peak(step: Callable[[], object]) -> int:
    """Return by how many bytes a step raises the peak of memory, of a fork of this process."""
    receiving, sending = FORKS.Pipe(duplex=False)

    def measure() -> None:
        before = peak_bytes()
        step()
        sending.send(peak_bytes() - before)

    process = FORKS.Process(target=measure)
    process.start()
    process.join()
    return int(receiving.recv())


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each version")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    report("text_head", [contest(case, arguments.rounds) for case in CASES], arguments.out)


if __name__ == "__main__":
    main()
