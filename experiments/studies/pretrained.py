"""A UniVAE from a pre-trained RoFormer against one from random weights, after equal further time.

Both start with ``train-text --init-from`` from a checkpoint of the same shape and vocabulary, one
of them with its initial weights (:mod:`experiments.studies.masked_words`):

.. code-block:: bash

    python -m experiments.studies.masked_words zh.txt pretrained --minutes 20
    python -m experiments.studies.masked_words zh.txt random --minutes 0
    python -m experiments.studies.pretrained zh.txt pretrained random --out runs/zh --minutes 8

The measures are of held-out texts: nats per text by importance sampling, the bound, the information
of the latents about the text, reconstructions that are exact, and samples.
"""

import argparse
from pathlib import Path

from experiments import evaluate, train_text
from experiments.benchmarks.harness import report
from experiments.studies.harness import Job, failures, run_all
from experiments.studies.reuse import bad_input_ends
from experiments.text.presets import AGAINST_COLLAPSE
from univae.checkpoint import JsonObject
from univae.kinds import load
from univae.vae.trained import TrainedText

SAMPLES = 128  # latents a text
TEXTS = 512  # held-out texts
SHOWN = 5  # samples, and reconstructions
MEASURES = (
    "nll_nats",
    "nll_standard_error",
    "khat_above_0.7",
    "elbo_nats",
    "kl_nats",
    "mutual_information_nats",
    "exact_share",
    "reconstructed",
)


def job(arguments: argparse.Namespace, checkpoint: Path, seed: int) -> Job:
    """Return the training from a checkpoint with a seed."""
    name = f"{checkpoint.name}-{seed}"
    options = {
        **AGAINST_COLLAPSE,
        "text": str(arguments.text),
        "init_from": str(checkpoint),
        "latent_layers": 2,
        "latent_width": 32,
        "max_length": 48,
        "batch_tokens": 2048,
        "lr": arguments.lr,
        "minutes": arguments.minutes,
        "clock": "processor",
        "validate_every": 200,
        "seed": seed,
        "threads": 1,
        "out": arguments.out / name,
    }
    return Job(name, train_text.train, train_text.Config.of(**options))


def measure(run: Path, held_out: Path) -> JsonObject:
    """Return the measures of a run on a file of texts."""
    config = evaluate.Config(run=run, data=str(held_out), samples=SAMPLES)
    result = evaluate.main(config)
    trained = load(run)
    assert isinstance(trained, TrainedText)
    texts = held_out.read_text(encoding="utf-8").split("\n")[:SHOWN]
    pairs = zip(texts, trained.reconstruct(texts), strict=True)
    return {
        **{name: result[name] for name in MEASURES if name in result},
        "samples": trained.sample(SHOWN, seed=0),
        "reconstructions": [list(pair) for pair in pairs],
    }


def main() -> None:
    """Run the study with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, help="a file of one text a line")
    parser.add_argument("checkpoints", type=Path, nargs="+", help="checkpoint folders")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--minutes", type=float, default=8.0, help="of processor time, each run")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each checkpoint")
    parser.add_argument("--at-once", type=int, default=2, help="runs at the same time")
    parser.add_argument("--results", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    if len({checkpoint.name for checkpoint in arguments.checkpoints}) < len(arguments.checkpoints):
        parser.error("checkpoints: runs are named after the folders, which must differ in name")
    jobs = [
        job(arguments, checkpoint, seed)
        for checkpoint in arguments.checkpoints
        for seed in range(arguments.seeds)
    ]
    results = run_all(jobs, arguments.at_once)
    held_out = arguments.out / "held_out.txt"
    runs: JsonObject = {}
    for one in jobs:
        if one.name in failures(results):
            continue
        if not held_out.exists():
            texts = train_text.held_out_texts(one.config.change(validation_texts=TEXTS))
            held_out.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        steps = results[one.name]["steps"]
        runs[one.name] = {"steps": steps, **measure(one.config.out, held_out)}
    report(
        "pretrained",
        {"text": arguments.text.name, "runs": runs, "failed": failures(results)},
        arguments.results,
        "study",
    )


if __name__ == "__main__":
    with bad_input_ends("pretrained"):
        main()
