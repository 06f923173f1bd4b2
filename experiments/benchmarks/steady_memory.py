"""Memory that stays flat: resident memory and open files of a training at an early and a late step.

Each of the four trainings runs in a process of its own, on small data with a small model, and
validates, saves and logs often; this process reads its memory and its open files from ``/proc``
when ``metrics.jsonl`` has reached a step. ``ratio`` is the late memory over the early one.

``python -m experiments.benchmarks.steady_memory``
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from experiments.benchmarks.harness import report
from univae.checkpoint import JsonObject, read_json
from univae.errors import InputError

EARLY = 200  # steps, by when each kind of work has been done twice
INTERVAL = 100  # steps between validations, and between checkpoints
POLL = 0.05  # seconds
KIB = 1024
LINES = 600  # texts of the data

Options = Mapping[str, object]

EVERY: Options = {
    "validate-every": INTERVAL,
    "checkpoint-every": INTERVAL,
    "log-every": 5,
    "threads": 1,
}
TEXT: Options = {
    "tokenizer": "words",
    "width": 16,
    "heads": 2,
    "layers": 2,
    "max-length": 16,
}


def trainings(folder: Path) -> dict[str, tuple[str, Options]]:
    """Return the module and the options of each training; write the data they read."""
    lines = [f"the {i % 97} cat {i % 89} sees {i % 7} dogs" for i in range(LINES)]
    (folder / "texts.txt").write_text("".join(f"{line}\n" for line in lines))
    pairs = [f"the {i % 97} cat\tthis {i % 97} cat {i % 89}\n" for i in range(LINES)]
    (folder / "pairs.tsv").write_text("".join(pairs))
    small = {"validation-samples": 4, "hidden": 16}
    return {
        "train-text": (
            "experiments.train_text",
            {
                "text": folder / "texts.txt",
                "latent-layers": 2,
                "latent-width": 4,
                "batch-tokens": 256,
                "validation-texts": 8,
                "validation-samples": 4,
                "calibration": 0,
                **TEXT,
            },
        ),
        "train-density": (
            "experiments.train_density",
            {"data": "digits", "latents": 4, "batch-size": 16, "validation-data": 16, **small},
        ),
        "train-gan": (
            "experiments.train_gan",
            {
                "data": "digits",
                "network": "mlp",
                "hidden": 16,
                "batch-size": 16,
                "validation-data": 32,
                "feature-steps": 5,
            },
        ),
        "train-similar": (
            "experiments.train_similar",
            {"pairs": folder / "pairs.tsv", "batch-size": 8, "validation-pairs": 16, **TEXT},
        ),
    }


def measured(module: str, options: Options, late: int, out: Path) -> JsonObject:
    """Train for ``late`` steps and a few more; return memory and files at both steps.

    Raises:
        RuntimeError: the training failed, or ended before it was measured.
    """
    command = [sys.executable, "-m", module, "--out", str(out)]
    for name, value in {**options, **EVERY, "steps": late + 2 * INTERVAL}.items():
        command += [f"--{name}", str(value)]
    row: JsonObject = {}
    with (
        (out.parent / "stderr").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log) as process,
    ):
        for name, step in (("early", EARLY), ("late", late)):
            while _last_step(out) < step:
                if process.poll() is not None:
                    words = (out.parent / "stderr").read_text()[-2000:]
                    raise RuntimeError(f"{module} ended before step {step}: {words}")
                time.sleep(POLL)
            row |= {f"{name}_{key}": value for key, value in _use_of(process.pid).items()}
    return {**row, "ratio": row["late_mebibytes"] / row["early_mebibytes"]}


def _use_of(process: int) -> dict[str, float]:
    """Return resident memory in MiB, and the number of open files of a process."""
    folder = Path(f"/proc/{process}")
    lines = (folder / "status").read_text().splitlines()
    (resident,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return {"mebibytes": resident / KIB, "files": len(os.listdir(folder / "fd"))}


def _last_step(run: Path) -> int:
    """Return the step of the last checkpoint of a run; 0 where there is none."""
    path = run / "checkpoints" / "last" / "state.json"
    try:
        return int(read_json(path)["step"])
    except InputError:  # there is none yet, or it is just being replaced
        return 0


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--late", type=int, default=5000, help="the late step")
    parser.add_argument("--only", default="", help="one of the trainings; empty: all")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    rows: JsonObject = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (module, options) in trainings(Path(folder)).items():
            if arguments.only in ("", name):
                rows[name] = measured(module, options, arguments.late, Path(folder) / name)
    report("steady_memory", rows, arguments.out)


if __name__ == "__main__":
    main()
