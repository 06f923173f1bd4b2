"""Memory and time of preparing a text for training, as it grows.

For every kind of tokens and every size, a new process learns the vocabulary, tokenises the text,
holds out a share, and orders the batches of an epoch. ``above_imports`` is the peak of resident
memory above that of the imported libraries; ``seconds_per_mb`` is flat where time is linear.
Of the generated words, one in 50 occurs once, as names and numbers do in natural text.

``python -m experiments.benchmarks.corpus_memory --megabytes 20 200 2000``
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from experiments.benchmarks.harness import peak_bytes, report
from experiments.text.corpora import Corpora
from experiments.text.data_options import TextData
from experiments.training.distributed import World
from univae.checkpoint import JsonObject
from univae.text.batches import token_batches
from univae.text.tokenizers import TOKENIZERS

MEGABYTE = 10**6
LINES = 10_000  # that are generated, and repeated
WORDS_IN_LINE = 16
COMMON_WORDS = 50_000
NEW_WORD = 3  # one line in so many ends in a word that occurs nowhere else
BATCH_TOKENS = 4096
VOCABULARY = 4096


def write_text(path: Path, size: int) -> None:
    """Write lines of words whose frequencies fall as Zipf's law says, ``size`` bytes or more."""
    generator = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(generator.choice(letters[:20], 2 + i % 9)) for i in range(COMMON_WORDS)]
    cumulative = np.cumsum(1 / np.arange(1, COMMON_WORDS + 1))
    drawn = np.searchsorted(cumulative, generator.random((LINES, WORDS_IN_LINE)) * cumulative[-1])
    lines = [" ".join([words[i] for i in row]) for row in drawn.tolist()]
    number = 0
    with path.open("w") as file:
        while file.tell() < size:
            for i, line in enumerate(lines):
                number += not i % NEW_WORD
                file.write(f"{line}\n" if i % NEW_WORD else f"{line} n{number:x}\n")


def prepare(text: Path, kind: str) -> JsonObject:
    """Prepare a text in this process; return its counts, seconds, and peaks of memory in bytes."""
    imported = peak_bytes()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        data = TextData(text=str(text), tokenizer=kind)
        world = World(0, 1, torch.device("cpu"))
        corpora = Corpora(data, Path(folder) / "run", 0, 256, VOCABULARY)
        corpora.prepare({"command": "train-text", "resume": False}, world)
        seconds = time.perf_counter() - start
        tokenised = peak_bytes()
        corpus, rows, _ = corpora.split(validation_texts=64)
        split = peak_bytes()
        token_batches(corpus.lengths[rows], BATCH_TOKENS, seed=0, epoch=0)
    megabytes = text.stat().st_size / MEGABYTE
    return {
        "kind": kind,
        "megabytes": megabytes,
        "texts": len(corpus),
        "tokens": corpus.totals["tokens"],
        "seconds": seconds,
        "seconds_per_mb": seconds / megabytes,
        "imports": imported,
        "above_imports": {
            "tokenised": tokenised - imported,
            "split": split - imported,
            "epoch": peak_bytes() - imported,
        },
    }


def measure(megabytes: list[int], kinds: list[str], folder: Path) -> list[JsonObject]:
    """Return what :func:`prepare` measures in a new process for each size and kind."""
    results = []
    for size in megabytes:
        text = folder / f"{size}.txt"
        write_text(text, size * MEGABYTE)
        for kind in kinds:
            command = [sys.executable, "-m", "experiments.benchmarks.corpus_memory"]
            output = subprocess.check_output([*command, "--prepare", str(text), "--kinds", kind])
            results.append(json.loads(output))
        text.unlink()
    return results


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, nargs="+", default=[2, 8], help="sizes of texts")
    parser.add_argument("--kinds", nargs="+", default=["bpe", "words"], choices=list(TOKENIZERS))
    parser.add_argument("--folder", type=Path, help="where texts and token ids are written")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare is not None:
        print(json.dumps(prepare(arguments.prepare, arguments.kinds[0])))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = measure(arguments.megabytes, arguments.kinds, Path(folder))
    report("corpus_memory", results, arguments.out)


if __name__ == "__main__":
    main()
