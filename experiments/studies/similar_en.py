"""English sentences from scratch within an hour: a distilled encoder that writes similar captions.

The model starts from random weights and learns to imitate a teacher and to write texts at once,
without the published first stage of contrasting and writing. Each arm adds to the one before:

    plain    fits the teacher's cosines
    tokens   starts the table of tokens from the teacher's vectors of single tokens
    vectors  fits the teacher's vectors
    full     keeps negations apart, and contrasts texts that differ in one

The texts are those of :mod:`experiments.studies.similar_en_texts`; the teacher's vectors are
computed once and stored. Nothing is trained on STS-B: its dev set chooses the weights of a run and
the options, its test set is reported.

``python -m experiments.studies.similar_en --data data --out runs/similar_en --results
results/similar_en.json``

References:
    Sentence-BERT by distillation (Reimers & Gurevych, 2020), https://arxiv.org/abs/2004.09813
"""

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from experiments import train_similar
from experiments.benchmarks.harness import report
from experiments.sentences.token_start import token_texts
from experiments.studies.harness import Job, failures, finished, run_all, setting
from experiments.studies.minilm import MiniLM, Teacher
from experiments.studies.reuse import (
    bad_input_ends,
    record_options,
    require_same_options,
    stored_options,
)
from experiments.studies.similar_en_measures import NUCLEI, generation_measures, vector_measures
from experiments.studies.similar_en_table import draw, summary
from experiments.studies.similar_en_texts import (
    Negations,
    TextFiles,
    write_text_files,
    write_vectors,
)
from experiments.training.configuration import options_of
from univae.checkpoint import JsonObject, read_json, write_json
from univae.errors import InputError
from univae.sentence.trained import TrainedSimilar

SHAPE: JsonObject = {
    "width": 256,
    "heads": 4,
    "layers": 3,
    "max_length": 40,
    "vocab_size": 8000,
    "lowercase": True,
}
TRAINING: JsonObject = {
    "stage": "distil",
    "lr": 1e-3,
    "batch_size": 32,
    "generation_share": 0.5,
    "noise_rows": 0.2,
    "ema": 0.999,
    "held_out": 0.01,
    "validate_every": 1000,
    "validation_pairs": 300,
    "clock": "processor",
}
TOKENS: JsonObject = {"token_start": "teacher"}
# With this weight the gradients of vectors and of generation have about the ratio that those of
# cosines have with the default of 100.
VECTORS: JsonObject = {**TOKENS, "distil_target": "vectors", "distil_weight": 30.0}


@dataclass(frozen=True)
class Arm:
    """A row of :data:`ARMS`."""

    options: JsonObject
    has_negations: bool = False  # whether negations are kept apart and contrasted


ARMS: Mapping[str, Arm] = {
    "plain": Arm({}),
    "tokens": Arm(TOKENS),
    "vectors": Arm(VECTORS),
    "full": Arm(VECTORS, has_negations=True),
}


def text_files(arguments: argparse.Namespace, arm: str, words: Sequence[str]) -> TextFiles:
    """Write the texts of an arm; return their files.

    Raises:
        InputError: there are texts of other options, with which a run may have been trained.
    """
    folder = arguments.out / f"texts-{arm}"
    options = text_options(arguments)
    advice = f"give another --out, or remove the folder and the runs of {arm}"
    require_same_options(folder, stored_options(folder), options, advice)
    negations = None
    if ARMS[arm].has_negations:
        negations = Negations(arguments.repeats, arguments.negated, arguments.contrasts)
    files = write_text_files(
        folder,
        arguments.data,
        words,
        limit=arguments.limit,
        treebank=arguments.treebank,
        negations=negations,
    )
    record_options(folder, options)
    return files


def text_options(arguments: argparse.Namespace) -> JsonObject:
    """Return the options that decide which texts an arm is trained on."""
    names = ("limit", "treebank", "repeats", "negated", "contrasts")
    return {name: getattr(arguments, name) for name in names}


def training_config(
    arguments: argparse.Namespace, arm: str, seed: int, files: TextFiles
) -> train_similar.Config:
    """Return the configuration of the training of an arm with a seed."""
    options = {
        **SHAPE,
        **TRAINING,
        **ARMS[arm].options,
        "pairs": (files.pairs,),
        "contrasts": () if files.contrasts is None else (files.contrasts,),
        "validation": (files.validation,),
        "teacher": arguments.vectors,
        "out": arguments.out / f"{arm}-{seed}",
        "seed": seed,
        "minutes": arguments.minutes,
        "threads": arguments.threads,
    }
    return train_similar.Config.of(**{**options, **arguments.set})


def prepare(arguments: argparse.Namespace, teacher: Teacher) -> tuple[list[Job], float]:
    """Write texts and the teacher's vectors; return the trainings and the seconds of the teacher.

    The teacher encodes all texts and the texts of single tokens. A tokenizer depends on the texts
    alone, so that it is trained here as in the run.
    """
    words = teacher.vocabulary()
    files = {arm: text_files(arguments, arm, words) for arm in arguments.arms}
    texts: list[str] = []
    for arm in arguments.arms:
        texts += files[arm].texts
        config = training_config(arguments, arm, 0, files[arm])
        if config.starts_from_teacher:
            texts += token_texts(config.corpora.new_tokenizer())
    seconds = write_vectors(arguments.vectors, texts, teacher)

    jobs = []
    for seed, arm in itertools.product(range(arguments.seeds), arguments.arms):
        config = training_config(arguments, arm, seed, files[arm])
        jobs.append(Job(f"{arm}-{seed}", train_similar.main, config))
    return jobs, seconds


def run_result(
    arguments: argparse.Namespace, folder: Path, trained: JsonObject, teacher: Teacher
) -> JsonObject:
    """Return the measures of a trained run, and the course of its validations."""
    run = TrainedSimilar.open(folder)
    course = [
        {"minutes": row["seconds"] / 60, "spearman": row["spearman"]}
        for row in run.folder.rows("validation")
        if row["spearman"] is not None
    ]
    generation = {}
    for top_p in NUCLEI:
        generation[f"top_p {top_p}"] = generation_measures(
            arguments.data, run, teacher, arguments.generate, top_p
        )
    return {
        "vectors": vector_measures(arguments.data, run.encode),
        "generation": generation,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "steps": trained["steps"],
        "processor_minutes": trained["seconds"] / 60,
        "course": course,
    }


def measured_once(path: Path, measure: Callable[[], JsonObject]) -> JsonObject:
    """Return the measures in a file, which is written where it does not exist."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measure())
    measures: JsonObject = read_json(path)
    return measures


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of texts, vectors, runs and measures; what is finished is not repeated",
    )
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["full"])
    parser.add_argument(
        "--minutes",
        type=float,
        default=55.0,
        help="processor time of a training in minutes; the teacher's vectors need another 15",
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each arm")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of a training")
    parser.add_argument("--at-once", type=int, default=1, help="runs at the same time")
    parser.add_argument("--limit", type=int, default=0, help="groups read of each source; 0: all")
    parser.add_argument(
        "--treebank",
        action="store_true",
        help="add sentences of Penn Treebank, in DATA/ptb, for vectors alone",
    )
    defaults = Negations()
    parser.add_argument(
        "--repeats",
        type=int,
        default=defaults.repeats,
        help="repetitions, in an epoch of the arm full, of groups with negations",
    )
    parser.add_argument(
        "--negated",
        type=int,
        default=defaults.negated,
        help="most groups that are negated by rule in the arm full",
    )
    parser.add_argument(
        "--contrasts",
        type=int,
        default=defaults.contrasts,
        help="most pairs that differ in a negation alone in the arm full",
    )
    parser.add_argument(
        "--generate", type=int, default=200, help="held-out captions to write similar texts for"
    )
    parser.add_argument(
        "--vectors",
        type=Path,
        help="table of the teacher's vectors, extended by those it lacks; OUT/teacher.npz",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="OPTION=VALUE",
        help="options of training for all arms, such as batch_size=64",
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    arguments = parser.parse_args(argv)
    if arguments.vectors is None:
        arguments.vectors = arguments.out / "teacher.npz"
    known = options_of(train_similar.Config)
    try:
        arguments.set = dict(setting(text, known, "train-similar") for text in arguments.set)
    except InputError as error:
        parser.error(str(error))
    return arguments


def main(argv: Sequence[str] | None = None) -> JsonObject:
    """Run the study with the options of the command line; return its results."""
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    teacher = MiniLM()
    jobs, teacher_seconds = prepare(arguments, teacher)
    trained = run_all(jobs, arguments.at_once)

    scores = arguments.out / "scores"
    runs: dict[str, JsonObject] = {}
    for job in jobs:
        result = finished(trained).get(job.name)
        if result is not None:
            path = job.config.out / f"measures-{arguments.generate}.json"  # removed with the run
            measure = partial(run_result, arguments, job.config.out, result, teacher)
            runs[job.name] = measured_once(path, measure)
    baselines = {
        "teacher": measured_once(
            scores / "teacher.json", partial(vector_measures, arguments.data, teacher.encode)
        ),
        "word average": measured_once(
            scores / "words.json", partial(vector_measures, arguments.data, teacher.words)
        ),
    }
    results = {
        "minutes": arguments.minutes,
        "seeds": arguments.seeds,
        "options": {**SHAPE, **TRAINING, **{arm: ARMS[arm].options for arm in arguments.arms}},
        "changed_options": arguments.set,
        "texts": text_options(arguments),
        "teacher_seconds": teacher_seconds,  # near 0 where all vectors were in the file
        **summary(runs, baselines),
        "runs": runs,
        "failed": failures(trained),
    }
    report("similar_en", results, arguments.results, kind="study")
    if arguments.figure is not None and runs:
        draw(runs, arguments.figure)
    return results


if __name__ == "__main__":
    with bad_input_ends("similar_en"):
        main()
