"""Likelihood of the sentences of Penn Treebank, of VAEs and of a language model, at equal time.

Every arm trains for the same processor time on the same batches of words, by the same optimizer and
schedule, and is scored on the same test sentences; a sentence is its words and one end token:

    univae      a UniVAE with batch-normalised means and blanked words, then calibrated
    vmf         a UniVAE with latents on a sphere, whose KL cannot vanish, then calibrated
    lm          the same blocks, embedding, head and dropout as a language model, without a latent
    peer        the GPTVAE of x-transformers with its own loss and latent dropout, and a floor of KL
    peer_bound  the same with the weight of KL of a bound, where its own loss has that times 22

The likelihood of VAEs is importance-sampled, with samples from their posteriors; that of the
language model is exact. Perplexities are per word or end token of the sentences that were
scored; all test sentences have 21.917 each.
What share of a step the output head takes is measured by ``python -m
experiments.benchmarks.roofline``.

x-transformers is a dependency of this study's peers alone: ``pip install x-transformers``.

``python -m experiments.studies.ptb ptb.train.txt ptb.valid.txt ptb.test.txt --out runs/ptb`` reads
files of one sentence a line, compressed ones too.

References:
    Texar (Hu et al., 2019), https://arxiv.org/abs/1809.00794, whose example ``vae_text`` gives the
    published bounds
    Lagging Inference Networks (He et al., 2019), https://arxiv.org/abs/1901.05534
    BN-VAE (Zhu et al., 2020), https://arxiv.org/abs/2004.12585
"""

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments import train_text
from experiments.benchmarks.harness import report
from experiments.studies import ptb_scores, ptb_training
from experiments.studies.harness import Job, failures, finished, run_all, setting
from experiments.studies.ptb_scores import paired_difference
from experiments.studies.ptb_table import draw, run_result, summary
from experiments.studies.reuse import bad_input_ends
from experiments.training.configuration import Configuration, options_of
from univae.checkpoint import JsonObject
from univae.errors import InputError

SHARED: JsonObject = {
    "tokenizer": "words",
    "vocab_size": 10_002,  # the published 9,999 words and end token, and two reserved ids
    "softmax": "adaptive",
    "width": 192,
    "heads": 6,
    "layers": 4,
    "latent_layers": 2,
    "latent_width": 16,
    "max_length": 84,  # of the longest training sentence, its end token included: 83
    "dropout": 0.1,
    "batch_tokens": 2048,
    "lr": 2e-3,
    "clock": "processor",
    "threads": 1,
    "validation_texts": 256,
    "validation_samples": 32,
}
CALIBRATED: JsonObject = {"calibration": 0.15, "fit": "model", "word_dropout": 0.2}


@dataclass(frozen=True)
class Arm:
    """A row of :data:`ARMS`."""

    config: type[Configuration]
    train: Callable[[Any], object]
    options: JsonObject
    needs: str = ""  # module that is no dependency of the library


PEER = "x_transformers"
ARMS: Mapping[str, Arm] = {
    "univae": Arm(
        train_text.Config,
        train_text.train,
        {**CALIBRATED, "bn_gamma": 0.6},
    ),
    "vmf": Arm(
        train_text.Config,
        train_text.train,
        {**CALIBRATED, "latent": "vmf", "kappa": 24.0},
    ),
    "lm": Arm(
        ptb_training.Config,
        ptb_training.train,
        {"arm": "lm"},
    ),
    "peer": Arm(
        ptb_training.Config,
        ptb_training.train,
        {"arm": "peer"},
        PEER,
    ),
    "peer_bound": Arm(
        ptb_training.Config,
        ptb_training.train,
        {"arm": "peer_bound"},
        PEER,
    ),
}


def training_job(arguments: argparse.Namespace, name: str, seed: int) -> Job:
    """Return the training of an arm with a seed."""
    arm = ARMS[name]
    options = {
        **SHARED,
        **arm.options,
        "text": str(arguments.train),
        "validation": str(arguments.valid),
        "minutes": arguments.minutes,
        "seed": seed,
        "out": arguments.out / f"{name}-{seed}",
    }
    known = options_of(arm.config)
    changed = {option: value for option, value in arguments.set.items() if option in known}
    return Job(f"{name}-{seed}", arm.train, arm.config.of(**{**options, **changed}))


def scoring_job(arguments: argparse.Namespace, run: Job) -> Job:
    """Return the scoring of a trained run on the test sentences."""
    folder = f"{run.name}-{arguments.texts or 'all'}x{arguments.samples}"
    config = ptb_scores.Config(
        out=arguments.out / "scores" / folder,
        run=run.config.out,
        test=arguments.test,
        texts=arguments.texts,
        samples=arguments.samples,
    )
    return Job(run.name, ptb_scores.score, config)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path, help="training sentences of words, one a line")
    parser.add_argument("valid", type=Path, help="sentences of validations")
    parser.add_argument("test", type=Path, help="sentences to score")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and scores")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--minutes", type=float, default=30.0, help="processor time of a training")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each arm")
    parser.add_argument(
        "--texts", type=int, default=0, help="test sentences, in a shuffled order; 0: all"
    )
    parser.add_argument("--samples", type=int, default=500, help="importance samples a sentence")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="OPTION=VALUE",
        help="options of training for all arms that have them, such as dropout=0.1",
    )
    parser.add_argument("--at-once", type=int, default=2, help="runs at the same time")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    arguments = parser.parse_args(argv)
    known = set[str]().union(*(options_of(arm.config) for arm in ARMS.values()))
    try:
        arguments.set = dict(setting(text, known, "train-text") for text in arguments.set)
        _check(arguments)
    except InputError as error:
        parser.error(str(error))
    return arguments


def _check(arguments: argparse.Namespace) -> None:
    for path in (arguments.train, arguments.valid, arguments.test):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    for name in arguments.arms:
        needed = ARMS[name].needs
        if needed and find_spec(needed) is None:
            raise InputError(
                f"--arms {name} needs {needed}, which is not installed: "
                f"pip install {needed.replace('_', '-')}; or leave the arm out"
            )


def main(argv: Sequence[str] | None = None) -> JsonObject:
    """Train and score every arm with every seed; return the results."""
    arguments = parse(argv)
    pairs = itertools.product(range(arguments.seeds), arguments.arms)
    jobs = [training_job(arguments, arm, seed) for seed, arm in pairs]
    trained = run_all(jobs, arguments.at_once)
    scoring = [scoring_job(arguments, job) for job in jobs if job.name in finished(trained)]
    scores = run_all(scoring, arguments.at_once)

    runs: dict[str, JsonObject] = {}
    for job in jobs:
        if job.name in finished(scores):
            runs[job.name] = run_result(job.config.out, trained[job.name], scores[job.name])
    folders = {job.name: job.config.out for job in scoring if job.name in runs}
    for name, folder in folders.items():
        reference = folders.get(f"lm-{name.rpartition('-')[2]}")
        if reference not in (None, folder):
            runs[name]["above_language_model"] = paired_difference(folder, reference)
    results = {
        "minutes": arguments.minutes,
        "seeds": arguments.seeds,
        "options": {**SHARED, **{name: ARMS[name].options for name in arguments.arms}},
        "changed_options": arguments.set,
        **summary(runs),
        "runs": runs,
        "failed": {**failures(trained), **failures(scores)},
    }
    report("ptb", results, arguments.results, kind="study")
    if arguments.figure is not None and runs:
        draw(runs, arguments.figure)
    return results


if __name__ == "__main__":
    with bad_input_ends("ptb"):
        main()
