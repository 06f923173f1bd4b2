"""K-sample likelihood of texts: the trunk below the latents shared by all samples, against the same model without that.

The plain version repeats every text once a sample and runs all layers on the copies. Peak memory is
measured in fresh processes, for K = 64 and K = 1024 in chunks of the same size. ``python -m
experiments.benchmarks.text_likelihood``
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from density.estimation.importance import log_weights
from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.text.special import END
from univae.vae.model import UniVAE, UniVAEConfig

BARS = {"speed": 2.0, "memory": 1.10}
CHUNK = 16


def setting() -> tuple[UniVAE, Tensor]:
    """12 layers, of which the lower 8 know nothing of the latents; 8 texts of 32 tokens."""
    torch.manual_seed(0)
    model = UniVAE(UniVAEConfig(2048, 128, 4, 12, 4, 16, max_length=32)).eval()
    return model, torch.randint(END + 1, 2048, (8, 32))


def plain(model: UniVAE, ids: Tensor, samples: int) -> Tensor:
    """The same estimator, nothing shared: every sample has its own copy of the text."""
    chunks = []
    for _ in range(0, samples, CHUNK):
        copies = ids.repeat(CHUNK, 1)
        z, log_q = model.posterior(copies).rsample_with_log_prob()
        log_w = model.prior().log_prob(z) + model.likelihood(z).log_prob(copies) - log_q
        chunks.append(log_w.view(CHUNK, -1))
    return torch.cat(chunks)


@torch.inference_mode()
def speed(samples: int, rounds: int) -> dict[str, Any]:
    model, ids = setting()
    both = {
        "repeated": lambda: plain(model, ids, samples),
        "shared": lambda: log_weights(model, ids, samples, chunk=CHUNK),
    }
    torch.manual_seed(1)
    means = {name: run().double().mean(0) for name, run in both.items()}
    return {
        "samples": samples,
        "bar": BARS["speed"],
        "mean_log_weight": {name: mean.mean().item() for name, mean in means.items()},
        **compare(both, rounds, warmup=1),
    }


@torch.inference_mode()
def peak(samples: int) -> int:
    """Peak resident memory of this process in bytes, after scoring."""
    model, ids = setting()
    log_weights(model, ids, samples, chunk=CHUNK)
    return peak_bytes()


def memory() -> dict[str, Any]:
    command = [sys.executable, "-m", "experiments.benchmarks.text_likelihood", "--peak"]
    found = {k: json.loads(subprocess.check_output([*command, str(k)])) for k in (64, 1024)}
    return {"bar": BARS["memory"], "peak_bytes": found, "ratio": found[1024] / found[64]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peak",
        type=int,
        help="print the peak memory of scoring with so many samples, and nothing else",
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(arguments.peak))
        return
    results = {"speed": speed(arguments.samples, arguments.rounds), "memory": memory()}
    report("text_likelihood", results, arguments.out)


if __name__ == "__main__":
    main()
