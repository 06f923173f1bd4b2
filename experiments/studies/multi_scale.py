r"""Whether low latent layers of a UniVAE hold the form of a sentence, and the top one its content.

The published samples show that with the low layers drawn anew the topic words stay and the form
changes, and with the top one drawn anew the pattern stays and the content changes. UniVAEs with 2
and 4 latent layers, a fixed and a learned prior, and several seeds are trained as near
autoencoders on short texts. On held-out texts the greedy decoding of a code is compared with that
of the same code with some layers drawn anew, ``prior``: from the prior given the layers below, or
``texts``: from the code of another held-out text. :mod:`experiments.studies.multi_scale_measures`
says what is compared. Then attribute vectors (mean code with the attribute, minus mean code without
it) are added to codes, against random vectors of their norm.

``python -m experiments.studies.multi_scale captions.txt questions.txt --minutes 8
--out runs/multi_scale --results experiments/results/multi_scale.json`` reads files of one text a
line. Minutes are processor time of a training; measuring a run takes about one more.

References:
    UniVAE (Su, 2021), https://kexue.fm/archives/8475
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments import train_text
from experiments.benchmarks.harness import report
from experiments.studies.harness import Job, failures, finished, run_all, spread
from experiments.studies.multi_scale_corpus import Corpus, lines_of, tokenizer_of
from experiments.studies.multi_scale_edits import measure
from experiments.studies.multi_scale_measures import LANGUAGES
from experiments.studies.multi_scale_tables import draw
from univae.checkpoint import JsonObject, read_json, write_json
from univae.errors import InputError
from univae.run_folder import RunFolder
from univae.vae.trained import TrainedText

LATENT_LAYERS = (2, 4)
PRIORS = ("standard", "learned")
BELOW = 2  # layers without a latent, under those with one
INTERVAL = {"mean", "low", "high"}


def job(corpus: Corpus, options: argparse.Namespace, layers: int, prior: str, seed: int) -> Job:
    """Return the training of one model, of one thread, validated at its end alone."""
    name = f"{corpus.name}-{layers}-{prior}-{seed}"
    settings: JsonObject = {
        "width": options.width,
        "heads": 4,
        "inner_width": options.width,
        "layers": BELOW + layers,
        "latent_layers": layers,
        "latent_width": options.code // layers,
        "prior": prior,
        "tokenizer": corpus.tokenizer,
        "vocab_size": options.vocabulary + 300,  # and reserved tokens, and bytes
        "max_length": options.longest + 1,
        "word_dropout": options.word_dropout,
        "bn_gamma": options.bn_gamma,
        "kl_weight": options.kl_weight,
        "annealing": "linear",
        "batch_tokens": options.batch_tokens,
        "lr": options.lr,
        "minutes": options.minutes,
        "clock": "processor",
        "threads": 1,
        "device": "cpu",
        "calibration": 0.0,
        "validate_every": 0,
        "checkpoint_every": 0,
        "validation_texts": 64,
        "validation_samples": 2,
    }
    config = train_text.Config.of(
        text=str(corpus.training),
        validation=str(corpus.held_out),
        out=options.out / name,
        seed=seed,
        **settings,
    )
    return Job(name, train_text.train, config)


def measurements_of(corpus: Corpus, folder: Path, options: argparse.Namespace) -> JsonObject:
    """Return the measurements of a run, from the file in its folder where it has them."""
    sizes = {"texts": options.texts, "count": options.count}
    path = folder / "multi_scale.json"
    if path.exists():
        stored: JsonObject = read_json(path)
        if stored["asked"] == sizes:
            return stored["measured"]
    # the last weights: the best ones are chosen by the bound, whose KL has the weight 1
    run = TrainedText.read(RunFolder.open(folder), torch.device("cpu"), "last")
    training = lines_of(corpus.training)
    held_out = lines_of(corpus.held_out)
    measurements = measure(run, corpus.language, training, held_out, options.count)
    write_json(path, {"asked": sizes, "measured": measurements})
    return measurements


def over_seeds(values: Sequence[Any]) -> Any:
    """Return measurements of several seeds as one, with the spread of every number.

    An interval keeps its bounds of each seed; verdicts that differ become ``neither``.
    """
    first = values[0]
    if isinstance(first, str):
        return first if len(set(values)) == 1 else "neither"
    if isinstance(first, (int, float)):
        return spread(values)
    if isinstance(first, list):
        return [over_seeds(entries) for entries in zip(*values, strict=True)]
    if first.keys() == INTERVAL:
        bounds = [[value["low"], value["high"]] for value in values]
        return {**spread(value["mean"] for value in values), "intervals": bounds}
    shared = [key for key in first if all(key in value for value in values)]
    return {key: over_seeds([value[key] for value in values]) for key in shared}


def study(corpora: Mapping[Path, Corpus], options: argparse.Namespace) -> JsonObject:
    """Train and measure all models; return the measurements of every corpus and arm."""
    torch.set_num_threads(1)
    for path, corpus in corpora.items():
        corpus.write(path, options.texts, options.longest, options.vocabulary)
    arms = list(itertools.product(options.latent_layers, options.priors))
    seeds = range(options.seeds)
    jobs = {
        (corpus.name, arm, seed): job(corpus, options, *arm, seed)
        for seed in seeds
        for corpus in corpora.values()
        for arm in arms
    }
    results = run_all(list(jobs.values()), options.jobs)
    table: JsonObject = {}
    for corpus in corpora.values():
        measurements_of_arms = {}
        for arm in arms:
            names = [jobs[corpus.name, arm, seed].name for seed in seeds]
            done = finished({name: results[name] for name in names})
            measurements = [measurements_of(corpus, options.out / name, options) for name in done]
            if measurements:
                measurements_of_arms[" ".join(map(str, arm))] = {
                    "steps": spread(run["steps"] for run in done.values()),
                    **over_seeds(measurements),
                }
        table[corpus.name] = measurements_of_arms
    return {"options": _options(options), "failed": failures(results), "table": table}


def _options(options: argparse.Namespace) -> JsonObject:
    """Return the options that results depend on."""
    without_effect = ("files", "out", "results", "figure", "jobs")
    return {name: value for name, value in vars(options).items() if name not in without_effect}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = arguments.add_argument
    add("files", nargs="+", type=Path, help="files of one text a line")
    add(
        "--tokenizers",
        nargs="+",
        choices=tuple(LANGUAGES),
        help="of each file; words: English, chars: Chinese; default: by its letters",
    )
    add("--latent-layers", nargs="+", type=int, default=LATENT_LAYERS)
    add("--priors", nargs="+", choices=PRIORS, default=PRIORS)
    add("--minutes", type=float, default=8.0, help="processor time of a training")
    add("--seeds", type=int, default=3, help="runs of each arm")
    add("--jobs", type=int, default=2, help="runs at once, of one thread each")
    add("--texts", type=int, default=400, help="held-out texts of a file")
    add("--count", type=int, default=4, help="edits of each text and set of layers")
    add("--longest", type=int, default=12, help="most words (of Chinese: characters) of a text")
    add("--vocabulary", type=int, default=1000, help="words of all texts, the most frequent")
    add("--width", type=int, default=128, help="features of a position")
    add("--code", type=int, default=128, help="latent numbers of all layers together")
    add("--kl-weight", type=float, default=0.02, help="weight of the KL at the end of training")
    add("--word-dropout", type=float, default=0.5, help="share of decoder inputs blanked")
    add("--bn-gamma", type=float, default=1.0, help="scale of batch-normalised means; 0: off")
    add("--batch-tokens", type=int, default=512, help="padded tokens in a batch")
    add("--lr", type=float, default=3e-3, help="highest learning rate")
    add("--out", type=Path, default=Path("runs/multi_scale"), help="folder of the runs")
    add("--results", type=Path, help="a JSON file for the results")
    add("--figure", type=Path, help="a PNG to draw")
    return arguments


def corpora_of(options: argparse.Namespace) -> dict[Path, Corpus]:
    """Return the corpus of every file.

    Raises:
        InputError: a file is missing, two have one name, or there are as many tokenizers not.
    """
    for path in options.files:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    if len({path.stem for path in options.files}) < len(options.files):
        raise InputError("files: two have one name; rename one")
    tokenizers = options.tokenizers or [tokenizer_of(path) for path in options.files]
    if len(tokenizers) != len(options.files):
        raise InputError(
            f"--tokenizers names {len(tokenizers)} for {len(options.files)} files; "
            "give one for each file"
        )
    corpora = {}
    for path, tokenizer in zip(options.files, tokenizers, strict=True):
        corpora[path] = Corpus(path.stem, tokenizer, options.out / path.stem)
    return corpora


def main(arguments: Sequence[str] | None = None) -> JsonObject:
    """Run the study with the options of the command line, and return its results."""
    command = parser()
    options = command.parse_args(arguments)
    try:
        results = study(corpora_of(options), options)
    except InputError as error:
        command.error(str(error))
    report("multi_scale", results, options.results, kind="study")
    if options.figure is not None:
        draw(results["table"], options.figure)
    return results


if __name__ == "__main__":
    main()
