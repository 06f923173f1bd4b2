"""Chinese sentences from scratch, by characters: CoSENT on labelled pairs of four data sets.

Trained on ATEC, the development sets of LCQMC and BQ, and the training set of the Chinese STS-B. A
batch has pairs of one data set, because the meaning of a label of 0 differs among them. The
checkpoint is selected by the mean correlation on the last pairs of LCQMC's and BQ's sets and on
STS-B's development set.

The published models started from a pre-trained base and were trained on the training sets of LCQMC
(238,766 pairs) and BQ; this one starts from random weights. Its baselines are the random weights
and the cosine of the character frequencies of two texts, weighted by rarity (TF-IDF).

``python -m experiments.studies.similar_zh --data data --out runs/similar_zh --results
results/similar_zh.json``
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from experiments import train_similar
from experiments.benchmarks.harness import report
from experiments.studies.reuse import bad_input_ends
from experiments.studies.sentences import (
    Encode,
    Pair,
    labelled,
    rows_of,
    spearman_of,
    stsb,
    train_once,
    write_groups,
)
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, read_json
from univae.sentence.model import RoFormerSim
from univae.sentence.trained import TrainedSimilar

# Spearman on test, times 100: https://kexue.fm/archives/8541 and /8847
PUBLISHED = {
    "RoFormer-Sim": {"lcqmc": 72.30, "bq_corpus": 48.31, "stsb": 71.75},
    "RoFormer-Sim-FT": {"lcqmc": 79.56, "bq_corpus": 73.48, "stsb": 78.28},
    "BERT + CoSENT": {"lcqmc": 78.69, "bq_corpus": 72.38, "stsb": 80.14},
}
SHAPE: JsonObject = {
    "width": 256,
    "heads": 4,
    "layers": 4,
    "max_length": 48,
    "tokenizer": "chars",
    "vocab_size": 6000,
}
TRAINING: JsonObject = {
    "stage": "finetune",
    "supervised": "cosent",
    "lr": 3e-4,
    "batch_size": 64,
    "dropout": 0.1,
    "ema": 0.999,
    "validate_every": 300,
}
HELD_OUT = 500  # last pairs of a development set that are held out of training
SPLIT = ("lcqmc", "bq_corpus")  # the data sets with held-out pairs

PairSets: TypeAlias = Mapping[str, Sequence[Pair]]  # by the name of the data set


def training_sets(data: Path) -> tuple[PairSets, PairSets]:
    """Return the labelled pairs to train on, and the held-out pairs that select the checkpoint."""
    sets: dict[str, Sequence[Pair]] = {
        "atec": labelled(rows_of(data / "atec" / "atec_nlp_sim_train.csv.gz", "\t"), 1, 3),
        "lcqmc": labelled(rows_of(data / "lcqmc" / "dev.txt.gz", "\t"), 0, 2),
        "bq_corpus": labelled(rows_of(data / "bq_corpus" / "dev.csv.gz", ","), 0, 2),
        "stsb": stsb(data, "zh", "train"),
    }
    validation: dict[str, Sequence[Pair]] = {}
    for name in SPLIT:
        validation[name] = sets[name][-HELD_OUT:]
        sets[name] = sets[name][:-HELD_OUT]
    validation["stsb"] = stsb(data, "zh", "dev")
    return sets, validation


def held_out_sets(data: Path) -> PairSets:
    """Return the test sets."""
    return {
        "lcqmc": labelled(rows_of(data / "lcqmc" / "test.txt.gz", "\t"), 0, 2),
        "bq_corpus": labelled(rows_of(data / "bq_corpus" / "test.csv.gz", ","), 0, 2),
        "stsb": stsb(data, "zh", "test"),
    }


def characters(texts: Sequence[str]) -> Encode:
    """Return vectors of character frequencies, weighted by their rarity in ``texts``."""
    tf_idf = TfidfVectorizer(analyzer="char", sublinear_tf=True, dtype=np.float32).fit(texts)

    def encode(encoded_texts: Sequence[str]) -> np.ndarray:
        vectors: np.ndarray = tf_idf.transform(encoded_texts).toarray()
        return vectors

    return encode


def trained(out: Path, threads: int, minutes: float, sets: PairSets, validation: PairSets) -> Path:
    """Train the run unless it is finished; return its folder."""
    out.mkdir(parents=True, exist_ok=True)
    pairs = [write_groups(out / f"{name}.jsonl", sets[name]) for name in sets]
    validation_files = []
    for name in validation:
        validation_files.append(write_groups(out / f"{name}_judges.jsonl", validation[name]))
    config = train_similar.Config.of(
        out=out / "finetune",
        pairs=tuple(pairs),
        validation=tuple(validation_files),
        threads=threads,
        minutes=minutes,
        **SHAPE,
        **TRAINING,
    )
    train_once(config)
    return config.out


def untrained(run: Path) -> TrainedSimilar:
    """Return the model of a run with its initial weights."""
    similar = TrainedSimilar.open(run)
    reseed(similar.config["seed"], "weights")
    similar.model = RoFormerSim(similar.model.config).eval()
    return similar


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of texts and the run; a finished run is reused",
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="training time in minutes")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument("--limit", type=int, default=10000, help="pairs of a data set; 0: all")
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> JsonObject:
    """Run the study with the options of the command line; return its results."""
    options = parse(argv)
    torch.set_num_threads(options.threads)
    all_pairs, validation = training_sets(options.data)
    sets = {}
    training_texts = []
    for name, pairs in all_pairs.items():
        different = [pair for pair in pairs if pair[0] != pair[1]]
        sets[name] = different[: options.limit or None]
        for first, second, _ in sets[name]:
            training_texts += [first, second]
    run = trained(options.out, options.threads, options.minutes, sets, validation)

    encoders: dict[str, Encode] = {
        "CoSENT, from random weights": TrainedSimilar.open(run).encode,
        "random weights": untrained(run).encode,
        "characters, TF-IDF": characters(training_texts),
    }
    tests = held_out_sets(options.data)
    spearman: dict[str, dict[str, float]] = {}
    for name, encode in encoders.items():
        spearman[name] = {test: 100 * spearman_of(encode, tests[test]) for test in tests}
    done = read_json(run / "DONE")
    results = {
        "spearman": spearman,
        "published, from a pre-trained base": PUBLISHED,
        "training_pairs": {name: len(pairs) for name, pairs in sets.items()},
        "training_seconds": done["seconds"],
        "steps": done["steps"],
    }
    report("similar_zh", results, options.results, kind="study")
    return results


if __name__ == "__main__":
    with bad_input_ends("similar_zh"):
        main()
