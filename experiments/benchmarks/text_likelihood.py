"""K-sample likelihood of texts: layers below the latents shared by all samples, or repeated.

The plain version repeats every text for each sample and runs all layers on the copies. Peak memory
is measured in new processes, for K = 64 and K = 1024 in chunks of the same size.

``python -m experiments.benchmarks.text_likelihood``
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from density.estimation.importance import log_weights
from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.checkpoint import JsonObject
from univae.text.special import END
from univae.vae.model import UniVAE, UniVAEConfig

BARS = {"speed": 2.0, "memory": 1.10}
CHUNK = 16
FEW_SAMPLES = 64
MANY_SAMPLES = 1024


def setting() -> tuple[UniVAE, Tensor]:
    """Return a model of 12 layers, the lower 8 without latents, and 8 texts of 32 tokens."""
    torch.manual_seed(0)
    model = UniVAE(UniVAEConfig(2048, 128, 4, 12, 4, 16, max_length=32)).eval()
    return model, torch.randint(END + 1, 2048, (8, 32))


def plain(model: UniVAE, ids: Tensor, samples: int) -> Tensor:
    """Return the log-weights of the same estimator, with a copy of the text for every sample."""
    chunks = []
    for _ in range(0, samples, CHUNK):
        copies = ids.repeat(CHUNK, 1)
        z, log_q = model.posterior(copies).rsample_with_log_prob()
        log_w = model.prior().log_prob(z) + model.likelihood(z).log_prob(copies) - log_q
        chunks.append(log_w.view(CHUNK, -1))
    return torch.cat(chunks)


@torch.inference_mode()
def speed(samples: int, rounds: int) -> JsonObject:
    """Time both on the same texts; report their mean log-weights, which must agree."""
    model, ids = setting()
    contestants = {
        "repeated": lambda: plain(model, ids, samples),
        "shared": lambda: log_weights(model, ids, samples, chunk=CHUNK),
    }
    torch.manual_seed(1)
    means = {}
    for name, run in contestants.items():
        means[name] = run().double().mean(0).mean().item()
    return {
        "samples": samples,
        "bar": BARS["speed"],
        "mean_log_weight": means,
        **compare(contestants, rounds, warmup=1),
    }


@torch.inference_mode()
def peak(samples: int) -> int:
    """Return the peak resident bytes of this process after scoring."""
    model, ids = setting()
    log_weights(model, ids, samples, chunk=CHUNK)
    return peak_bytes()


def memory() -> JsonObject:
    """Return the peaks of new processes with few and with many samples, and their ratio."""
    command = [sys.executable, "-m", "experiments.benchmarks.text_likelihood", "--peak"]
    peaks: dict[int, int] = {}
    for samples in (FEW_SAMPLES, MANY_SAMPLES):
        peaks[samples] = json.loads(subprocess.check_output([*command, str(samples)]))
    ratio = peaks[MANY_SAMPLES] / peaks[FEW_SAMPLES]
    return {"bar": BARS["memory"], "peak_bytes": peaks, "ratio": ratio}


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=128, help="importance samples per text")
    parser.add_argument("--rounds", type=int, default=5, help="timed repetitions")
    parser.add_argument(
        "--peak",
        type=int,
        help="only print the peak memory of scoring with this many samples",
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(arguments.peak))
        return
    results = {"speed": speed(arguments.samples, arguments.rounds), "memory": memory()}
    report("text_likelihood", results, arguments.out)


if __name__ == "__main__":
    main()
