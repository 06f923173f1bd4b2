"""Growth of processor time with samples K, batch B and data n: slopes of log time over log size.

Slope 1 is linear time; less means that a fixed cost shares in it. Timed are the likelihood of texts
with K samples, a training step with B texts, tokenising n texts, and a search among n vectors.

``python -m experiments.benchmarks.growth --figure growth.png``
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from density.estimation.importance import log_weights
from experiments.benchmarks.harness import report
from univae.checkpoint import JsonObject
from univae.sentence.nearest import top_k
from univae.text.corpus import Corpus
from univae.text.special import END
from univae.text.tokenizers import train_tokenizer
from univae.vae.model import UniVAE, UniVAEConfig

Run = Callable[[], object]

LENGTH = 32  # tokens of a text
CHUNK = 16  # samples that are decoded at once
WIDTH = 128  # of vectors
SIZES: Mapping[str, tuple[int, ...]] = {
    "likelihood, K samples": (16, 64, 256, 1024),
    "training step, B texts": (4, 16, 64, 256),
    "tokenising n texts": (1_000, 4_000, 16_000, 64_000),
    "search of n vectors": (10_000, 40_000, 160_000, 640_000),
}


def texts_and_model(count: int) -> tuple[UniVAE, torch.Tensor]:
    """Return a small model, and ``count`` texts of random tokens."""
    torch.manual_seed(0)
    model = UniVAE(UniVAEConfig(512, 64, 2, 4, 2, 8, max_length=LENGTH))
    return model, torch.randint(END + 1, 512, (count, LENGTH))


def likelihood(samples: int, folder: Path) -> Run:
    """Return the scoring of eight texts with some samples each."""
    model, ids = texts_and_model(8)

    def run() -> None:
        with torch.inference_mode():
            log_weights(model, ids, samples, chunk=CHUNK)

    return run


def training_step(batch: int, folder: Path) -> Run:
    """Return the forward and backward pass of a batch."""
    model, ids = texts_and_model(batch)

    def run() -> None:
        bound = model.elbo(ids)
        (bound.kl.sum() - bound.log_likelihood.sum()).backward()

    return run


def tokenising(count: int, folder: Path) -> Run:
    """Return the writing of a corpus of bytes."""
    texts = [f"text {number} of a corpus, as long as others" for number in range(count)]
    tokenizer = train_tokenizer("bytes", [])

    def run() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as corpus:
            Corpus.build(texts, tokenizer, Path(corpus), max_length=256)

    return run


def searching(count: int, folder: Path) -> Run:
    """Return the search of one query in a mapped file."""
    path = folder / f"{count}.npy"
    matrix = np.lib.format.open_memmap(path, "w+", np.float32, (count, WIDTH))
    matrix[:] = np.random.default_rng(0).standard_normal(WIDTH, np.float32)
    matrix.flush()
    mapped = np.load(path, mmap_mode="r")
    query = torch.from_numpy(mapped[:1].copy())
    return lambda: top_k(query, mapped, 10)


CASES: Mapping[str, Callable[[int, Path], Run]] = dict(
    zip(SIZES, (likelihood, training_step, tokenising, searching), strict=True)
)


def measure(name: str, sizes: Sequence[int], rounds: int, folder: Path) -> JsonObject:
    """Return the least time of each size in milliseconds, and the slopes between and over them."""
    milliseconds = []
    for size in sizes:
        run = CASES[name](size, folder)
        run()
        milliseconds.append(1e3 * min(_seconds(run) for _ in range(rounds)))
    logs = np.log(sizes), np.log(milliseconds)
    return {
        "sizes": list(sizes),
        "milliseconds": milliseconds,
        "slope": float(np.polyfit(*logs, 1)[0]),
        "last_slope": float(np.diff(logs[1])[-1] / np.diff(logs[0])[-1]),
    }


def draw(results: Mapping[str, JsonObject], path: Path) -> None:
    """Write a figure of all cases, log time over log size, with lines of slope 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    axes = figure.subplots(1, len(results))
    for panel, (name, result) in zip(axes, results.items(), strict=True):
        sizes = np.array(result["sizes"])
        times = np.array(result["milliseconds"])
        panel.loglog(sizes, times, "o-")
        panel.loglog(sizes, times[-1] * sizes / sizes[-1], ":", color="grey")
        panel.set_title(f"{name}: slope {result['slope']:.2f}", fontsize=9)
    axes[0].set_ylabel("milliseconds")
    figure.savefig(path, dpi=150)


def _seconds(run: Run) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each size")
    parser.add_argument("--steps", type=int, default=4, help="sizes of each case, from the least")
    parser.add_argument("--figure", type=Path, help="a PNG file for the figure")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    results: dict[str, JsonObject] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, sizes in SIZES.items():
            chosen = sizes[: arguments.steps]
            results[name] = measure(name, chosen, arguments.rounds, Path(folder))
    if arguments.figure is not None:
        draw(results, arguments.figure)
    report("growth", results, arguments.out)


if __name__ == "__main__":
    main()
