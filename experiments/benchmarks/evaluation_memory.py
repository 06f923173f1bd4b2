"""Memory of scoring and encoding by the number of texts: what one more text costs.

A tiny text model is trained for two steps; then each command runs in a process of its own on a few
texts and on many. ``bytes_per_text`` is the difference of their peak resident memories over that of
the numbers of texts. The outputs are the formats that are written while texts are read.

``python -m experiments.benchmarks.evaluation_memory``
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments import encode, evaluate, likelihood, train_text
from experiments.benchmarks.harness import peak_bytes, report
from univae.checkpoint import JsonObject

MEBIBYTE = 2**20
TRAINED = 600  # texts


def _likelihood(run: Path, data: Path, out: Path) -> object:
    return likelihood.main(
        likelihood.Config(
            run=run, data=str(data), out=out / "s.csv", samples=1, proposal="posterior"
        )
    )


def _evaluate(run: Path, data: Path, out: Path) -> object:
    return evaluate.main(evaluate.Config(run=run, data=str(data), out=out / "e.jsonl", samples=1))


def _encode(run: Path, data: Path, out: Path) -> object:
    return encode.main(encode.Config(run=run, data=str(data), out=out / "codes.npy"))


COMMANDS: Mapping[str, Callable[[Path, Path, Path], object]] = {
    "likelihood": _likelihood,
    "evaluate": _evaluate,
    "encode": _encode,
}


def write_texts(path: Path, count: int) -> Path:
    """Write texts of five to eight words, a line each."""
    with path.open("w") as file:
        for i in range(count):
            file.write(f"the {i % 97} cat sees {' '.join(['dogs'] * (i % 4 + 1))}\n")
    return path


def train(folder: Path) -> Path:
    """Return a run of a tiny text model."""
    data = write_texts(folder / "trained.txt", TRAINED)
    words = f"--text {data} --out {folder / 'run'} --steps 2 --tokenizer words --width 16 --heads 2"
    words += " --layers 2 --latent-layers 2 --latent-width 4 --max-length 16 --batch-tokens 256"
    words += " --validation-texts 8 --validation-samples 4 --calibration 0 --threads 1"
    command = [sys.executable, "-m", train_text.__name__, *words.split()]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "run"


def peak(command: str, run: Path, count: int) -> int:
    """Return the peak resident memory, in bytes, of a command on ``count`` texts."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_texts(Path(folder) / "texts.txt", count)
        here = [sys.executable, "-m", "experiments.benchmarks.evaluation_memory"]
        arguments = ["--measure", command, str(run), str(data), folder]
        done = subprocess.run([*here, *arguments], check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def measured(command: str, run: Path, few: int, many: int) -> JsonObject:
    """Return both peaks of a command, in MiB, and the bytes that one more text costs."""
    peaks = [peak(command, run, count) for count in (few, many)]
    return {
        "few_mebibytes": peaks[0] / MEBIBYTE,
        "many_mebibytes": peaks[1] / MEBIBYTE,
        "bytes_per_text": (peaks[1] - peaks[0]) / (many - few),
    }


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--few", type=int, default=10_000, help="the small number of texts")
    parser.add_argument("--many", type=int, default=100_000, help="the large number of texts")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args()
    if arguments.measure:
        command, *paths = arguments.measure
        COMMANDS[command](*map(Path, paths))
        print(peak_bytes())
        return
    rows: JsonObject = {"few": arguments.few, "many": arguments.many}
    with tempfile.TemporaryDirectory() as folder:
        run = train(Path(folder))
        for command in COMMANDS:
            rows[command] = measured(command, run, arguments.few, arguments.many)
    report("evaluation_memory", rows, arguments.out)


if __name__ == "__main__":
    main()
