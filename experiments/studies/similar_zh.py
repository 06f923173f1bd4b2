"""Chinese sentences from scratch, by characters: a first stage on pairs marked as similar, then CoSENT on all labels.

Trained on ATEC, the development sets of LCQMC and BQ, and the training set of the Chinese STS-B (scores divided by 5,
so that all labels lie in [0, 1]); its development set chooses the checkpoint. The published models started from a
pre-trained base and saw the training sets of LCQMC (238,766 pairs) and BQ; this one starts from random weights.

``python -m experiments.studies.similar_zh --data data --out runs/similar_zh --results results/similar_zh.json``
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from experiments import train_similar
from experiments.benchmarks.harness import report
from experiments.similar_run import SimilarRun
from experiments.studies.sentences import labelled, rows_of, spearman_of, stsb, train_once, write_groups
from univae.checkpoint import read_json

# Spearman on test, times 100: https://kexue.fm/archives/8541 and /8847.
PUBLISHED = {
    "RoFormer-Sim": {"lcqmc": 72.30, "bq_corpus": 48.31, "stsb": 71.75},
    "RoFormer-Sim-FT": {"lcqmc": 79.56, "bq_corpus": 73.48, "stsb": 78.28},
    "BERT + CoSENT": {"lcqmc": 78.69, "bq_corpus": 72.38, "stsb": 80.14},
}
SHAPE = {"width": 256, "heads": 4, "layers": 4, "max_length": 48, "tokenizer": "chars", "vocab_size": 6000}
TRAINING = {"lr": 1e-3, "dropout": 0.1, "ema": 0.999, "validate_every": 1000, "validation_pairs": 300}
TUNING: dict[str, Any] = {"lr": 5e-4, "batch_size": 96, "stage": "finetune", "supervised": "cosent"}

Pair = tuple[str, str, float]


def scored(data: Path, part: str) -> list[Pair]:
    """STS-B with scores in [0, 1]."""
    return [(a, b, score / 5) for a, b, score in stsb(data, "zh", part)]


def training(data: Path) -> list[Pair]:
    """All labelled pairs."""
    return [
        *labelled(rows_of(data / "atec" / "atec_nlp_sim_train.csv.gz", "\t"), 1, 3),
        *labelled(rows_of(data / "lcqmc" / "dev.txt.gz", "\t"), 0, 2),
        *labelled(rows_of(data / "bq_corpus" / "dev.csv.gz", ","), 0, 2),
        *scored(data, "train"),
    ]


def tests(data: Path) -> dict[str, list[Pair]]:
    """The test sets, none of which is trained on."""
    return {
        "lcqmc": labelled(rows_of(data / "lcqmc" / "test.txt.gz", "\t"), 0, 2),
        "bq_corpus": labelled(rows_of(data / "bq_corpus" / "test.csv.gz", ","), 0, 2),
        "stsb": scored(data, "test"),
    }


def trained(given: argparse.Namespace) -> list[Path]:
    """The runs of both stages; one that is done stays, one that was interrupted goes on."""
    given.out.mkdir(parents=True, exist_ok=True)
    pairs = [(a, b, score) for a, b, score in training(given.data) if a != b][: given.limit or None]
    similar = write_groups(given.out / "similar.jsonl", [(a, b) for a, b, score in pairs if score >= 0.8])
    labels = write_groups(given.out / "labelled.jsonl", pairs)
    judges = write_groups(given.out / "validation.jsonl", scored(given.data, "dev"))
    first, second = given.out / "pretrain", given.out / "finetune"
    options: dict[str, Any] = {**SHAPE, **TRAINING, "threads": given.threads, "validation": str(judges)}
    train_once(train_similar.Config(pairs=similar, out=first, minutes=given.pretrain, **options))
    config = {**options, **TUNING, "minutes": given.minutes - given.pretrain}
    train_once(train_similar.Config(pairs=labels, out=second, from_run=first, **config))
    return [first, second]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of texts and runs; what is there stays")
    parser.add_argument("--minutes", type=float, default=50.0, help="of training, both stages")
    parser.add_argument("--pretrain", type=float, default=15.0, help="of them for the first stage")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=0, help="labelled pairs to train on; 0: all")
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    results: dict[str, Any] = {"published, from a pre-trained base": PUBLISHED}
    for run in trained(given):
        encode = SimilarRun(run).vectors
        found = {name: 100 * spearman_of(encode, pairs) for name, pairs in tests(given.data).items()}
        done = read_json(run / "DONE")
        results[run.name] = {"spearman": found, "seconds": done["seconds"], "steps": done["steps"]}
    report("similar_zh", results, given.results, kind="study")
    return results


if __name__ == "__main__":
    main()
