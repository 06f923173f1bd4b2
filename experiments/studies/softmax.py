"""Likelihood of texts of words with the full and with the adaptive softmax, after equal tokens.

Runs of ``train-text --preset tiny --tokenizer words``, one for each ``--softmax`` and seed. The
results are held-out nats per text at every validation, and at the end. How long a step takes is
measured side by side by ``python -m experiments.benchmarks.roofline``.

``python -m experiments.studies.softmax TRAIN.txt VALIDATION.txt --out runs/softmax``
"""

import argparse
from pathlib import Path

from experiments import train_text
from experiments.benchmarks.harness import report
from experiments.studies.harness import Job, Results, failures, finished, run_all
from experiments.studies.reuse import bad_input_ends
from experiments.text.presets import PRESETS
from univae.attention.adaptive_head import SOFTMAXES
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder

VOCABULARY = 10_000


def job(arguments: argparse.Namespace, softmax: str, seed: int) -> Job:
    """Return the training with a softmax and a seed."""
    name = f"{softmax}-{seed}"
    options = {
        **PRESETS["tiny"],
        "text": str(arguments.text),
        "validation": str(arguments.validation),
        "tokenizer": "words",
        "vocab_size": VOCABULARY,
        "softmax": softmax,
        "steps": arguments.steps,
        "seed": seed,
        "threads": 1,
        "calibration": 0.0,
        "out": arguments.out / name,
    }
    return Job(name, train_text.train, train_text.Config.of(**options))


def summary(results: Results, folder: Path) -> JsonObject:
    """Return the course of the held-out nats per text of every run, and the failures."""
    runs = {}
    for name, result in finished(results).items():
        course = [
            {"step": row["step"], "nll_nats": row["nll_nats"], "elbo_nats": row["elbo_nats"]}
            for row in RunFolder.open(folder / name).rows()
            if row["kind"] == "validation"
        ]
        runs[name] = {
            "steps": result["steps"],
            "nll_nats": result["nll_nats"],
            "elbo_nats": result["elbo_nats"],
            "course": course,
        }
    return {"runs": runs, "failed": failures(results)}


def main() -> None:
    """Run the study with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="a file of training texts of words")
    parser.add_argument("validation", type=Path, help="a file of held-out texts")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--steps", type=int, default=2700, help="of each run")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each softmax")
    parser.add_argument("--at-once", type=int, default=2, help="runs at the same time")
    parser.add_argument("--results", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    jobs = [
        job(arguments, softmax, seed) for softmax in SOFTMAXES for seed in range(arguments.seeds)
    ]
    results = run_all(jobs, arguments.at_once)
    report("softmax", summary(results, arguments.out), arguments.results, "study")


if __name__ == "__main__":
    with bad_input_ends("softmax"):
        main()
