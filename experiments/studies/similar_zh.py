"""Chinese sentences from scratch, by characters: the supervised stage, CoSENT on labelled pairs of four data sets.

Trained on ATEC, the development sets of LCQMC and BQ, and the training set of the Chinese STS-B. A
batch is of one data set, for a label of 0 means another thing in each. The last pairs of LCQMC's
and BQ's sets and STS-B's development set choose the checkpoint, by the mean of their correlations.
The published models started from a pre-trained base and saw the training sets of LCQMC (238,766
pairs) and BQ; this one starts from random weights, which are scored beside it, as is the cosine of
the characters of two texts, weighted by rarity (TF-IDF), which nobody trained.

``python -m experiments.studies.similar_zh --data data --out runs/similar_zh --results
results/similar_zh.json``
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from experiments import train_similar
from experiments.benchmarks.harness import report
from experiments.studies.sentences import (
    Encode,
    labelled,
    rows_of,
    spearman_of,
    stsb,
    train_once,
    write_groups,
)
from experiments.training.task import reseed
from univae.checkpoint import read_json
from univae.sentence.model import RoFormerSim
from univae.sentence.trained import TrainedSimilar

# Spearman on test, times 100: https://kexue.fm/archives/8541 and /8847.
PUBLISHED = {
    "RoFormer-Sim": {"lcqmc": 72.30, "bq_corpus": 48.31, "stsb": 71.75},
    "RoFormer-Sim-FT": {"lcqmc": 79.56, "bq_corpus": 73.48, "stsb": 78.28},
    "BERT + CoSENT": {"lcqmc": 78.69, "bq_corpus": 72.38, "stsb": 80.14},
}
SHAPE = {
    "width": 256,
    "heads": 4,
    "layers": 4,
    "max_length": 48,
    "tokenizer": "chars",
    "vocab_size": 6000,
}
TRAINING: dict[str, Any] = {
    "stage": "finetune",
    "supervised": "cosent",
    "lr": 3e-4,
    "batch_size": 64,
}
TRAINING |= {"dropout": 0.1, "ema": 0.999, "validate_every": 300}
HELD_OUT = 500  # pairs of a development set that is trained on

Pair = tuple[str, str, float]


def training(data: Path) -> tuple[dict[str, list[Pair]], dict[str, list[Pair]]]:
    """The labelled pairs of each data set to train on, and those that choose the checkpoint."""
    sets = {
        "atec": labelled(rows_of(data / "atec" / "atec_nlp_sim_train.csv.gz", "\t"), 1, 3),
        "lcqmc": labelled(rows_of(data / "lcqmc" / "dev.txt.gz", "\t"), 0, 2),
        "bq_corpus": labelled(rows_of(data / "bq_corpus" / "dev.csv.gz", ","), 0, 2),
        "stsb": stsb(data, "zh", "train"),
    }
    judges = {name: sets[name][-HELD_OUT:] for name in ("lcqmc", "bq_corpus")}
    sets |= {name: sets[name][:-HELD_OUT] for name in judges}
    return sets, judges | {"stsb": stsb(data, "zh", "dev")}


def tests(data: Path) -> dict[str, list[Pair]]:
    """The test sets, none of which is trained on."""
    return {
        "lcqmc": labelled(rows_of(data / "lcqmc" / "test.txt.gz", "\t"), 0, 2),
        "bq_corpus": labelled(rows_of(data / "bq_corpus" / "test.csv.gz", ","), 0, 2),
        "stsb": stsb(data, "zh", "test"),
    }


def characters(texts: Sequence[str]) -> Encode:
    """Vectors of how often each character comes, weighted by how rare it is among ``texts``."""
    weighted = TfidfVectorizer(analyzer="char", sublinear_tf=True, dtype=np.float32).fit(texts)
    return lambda some: weighted.transform(some).toarray()


def trained(
    given: argparse.Namespace, sets: dict[str, list[Pair]], judges: dict[str, list[Pair]]
) -> Path:
    """The run; one that is done stays, one that was interrupted goes on."""
    given.out.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        **SHAPE,
        **TRAINING,
        "threads": given.threads,
        "minutes": given.minutes,
    }
    options["pairs"] = tuple(write_groups(given.out / f"{name}.jsonl", sets[name]) for name in sets)
    options["validation"] = tuple(
        write_groups(given.out / f"{name}_judges.jsonl", judges[name]) for name in judges
    )
    train_once(train_similar.Config.of(out=given.out / "finetune", **options))
    return given.out / "finetune"


def untrained(run: Path) -> TrainedSimilar:
    """The model of a run with the weights it started from."""
    opened = TrainedSimilar.open(run)
    reseed(opened.config["seed"], "weights")
    opened.model = RoFormerSim(opened.model.config).eval()
    return opened


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of texts and the run; what is there stays"
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="of training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=10000, help="pairs of a data set; 0: all")
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    sets, judges = training(given.data)
    sets = {
        name: [pair for pair in pairs if pair[0] != pair[1]][: given.limit or None]
        for name, pairs in sets.items()
    }
    run = trained(given, sets, judges)
    encoders = {
        "CoSENT, from random weights": TrainedSimilar.open(run).encode,
        "random weights": untrained(run).encode,
        "characters, TF-IDF": characters(
            [text for pairs in sets.values() for a, b, _ in pairs for text in (a, b)]
        ),
    }
    done = read_json(run / "DONE")
    results: dict[str, Any] = {
        "spearman": {
            name: {
                test: 100 * spearman_of(encode, pairs) for test, pairs in tests(given.data).items()
            }
            for name, encode in encoders.items()
        },
        "published, from a pre-trained base": PUBLISHED,
        "training_pairs": {name: len(pairs) for name, pairs in sets.items()},
        "training_seconds": done["seconds"],
        "steps": done["steps"],
    }
    report("similar_zh", results, given.results, kind="study")
    return results


if __name__ == "__main__":
    main()
