"""English sentences from scratch within an hour: a distilled encoder that writes similar captions.

The model starts from random weights and learns to imitate the teacher's cosines and to write texts
at once, without the published first stage of contrasting and writing. The texts are those of
:mod:`experiments.studies.similar_en_texts`; the teacher's vectors are computed once and stored.
STS-B is only used as a test.

``python -m experiments.studies.similar_en --data data --out runs/similar_en --results
results/similar_en.json``
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from experiments import train_similar
from experiments.benchmarks.harness import report
from experiments.studies.minilm import MiniLM, Teacher
from experiments.studies.reuse import bad_input_ends
from experiments.studies.sentences import (
    auroc,
    captions,
    cosines,
    distinct_2,
    flips,
    recall,
    spearman_of,
    stsb,
    train_once,
)
from experiments.studies.similar_en_texts import (
    negated_questions,
    questions,
    write_training_files,
)
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, read_json
from univae.decoding.sampling import Sampling
from univae.sentence.tokenizer import normalised
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
    "validate_every": 2000,
    "validation_pairs": 300,
}
# top_p: the published value, and one with which the texts of a small model are better
NUCLEI = (0.95, 0.8)
RESULTS = 5  # texts written for a source
EXAMPLES = 5  # sources whose texts are reported


def vector_measures(data: Path, run: TrainedSimilar, teacher: Teacher) -> JsonObject:
    """Return correlation, recall and AUROC of student, teacher and averaged word vectors."""
    scored = stsb(data, "en", "test")
    groups = captions(data, "val")
    duplicates = questions(data, "test")
    encoders = {"student": run.encode, "teacher": teacher.encode, "word average": teacher.words}
    measures = {}
    for name, encode in encoders.items():
        measures[name] = {
            "stsb_test_spearman": spearman_of(encode, scored),
            "captions": recall(encode, groups),
            "qqp_test_auroc": auroc(encode, duplicates),
        }
    return measures


def generation_measures(
    arguments: argparse.Namespace, run: TrainedSimilar, teacher: Teacher, top_p: float
) -> JsonObject:
    """Write texts for held-out captions and for negated questions; return measures of them.

    The teacher's cosines measure the similarity of a caption and its texts.
    """
    sampling = Sampling(top_p=top_p)
    sources = [group[0] for group in captions(arguments.data, "val")[: arguments.generate]]
    negated = negated_questions(arguments.data, arguments.generate // 2)
    reseed(0, "study")
    written = _similar_texts(run, sources, sampling)
    pairs = _pairs(sources, written)
    cosine = cosines(teacher.encode, pairs)
    next_sources = [*sources[1:], *sources[:1]]  # rotated: no caption is paired with itself
    shuffled = cosines(teacher.encode, list(zip(sources, next_sources, strict=True)))
    negated_pairs = _pairs(negated, _similar_texts(run, negated, sampling))

    copies = [normalised(source, lowercase=run.text.lowercase) == text for source, text in pairs]
    examples = zip(sources[:EXAMPLES], written[:EXAMPLES], strict=True)
    return {
        "sources": len(sources),
        "results": len(pairs),
        "equal_to_source": sum(copies) / max(len(pairs), 1),
        "distinct_2": distinct_2([text for _, text in pairs]),
        "teacher_cosine_top_5": float(cosine.mean()),
        "teacher_cosine_random_captions": float(shuffled.mean()),
        "negation_flips_captions": _flip_rate(pairs),
        "negation_flips_negated_questions": _flip_rate(negated_pairs),
        "examples": [[source, *texts] for source, texts in examples],
    }


def _similar_texts(
    run: TrainedSimilar, sources: Sequence[str], sampling: Sampling
) -> list[list[str]]:
    ranked = run.similar(sources, RESULTS, sampling=sampling)
    return [[text for text, _ in results] for results in ranked]


def _pairs(sources: Sequence[str], texts: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    pairs = []
    for source, similar_texts in zip(sources, texts, strict=True):
        pairs += [(source, text) for text in similar_texts]
    return pairs


def _flip_rate(pairs: Sequence[tuple[str, str]]) -> float:
    return float(np.mean([flips(*pair) for pair in pairs]))


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
        help="folder of texts, vectors and runs; existing files are reused",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=45.0,
        help="training time in minutes; the teacher's vectors need another 15",
    )
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    parser.add_argument("--limit", type=int, default=0, help="groups read of each source; 0: all")
    parser.add_argument(
        "--generate", type=int, default=200, help="held-out captions to write similar texts for"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> JsonObject:
    """Run the study with the options of the command line; return its results."""
    options = parse(argv)
    torch.set_num_threads(options.threads)
    teacher = MiniLM()
    texts_file, vectors_file, seconds = write_training_files(options, teacher)
    folder = options.out / "distil"
    config = train_similar.Config.of(
        pairs=(texts_file,),
        teacher=vectors_file,
        out=folder,
        threads=options.threads,
        minutes=options.minutes,
        **SHAPE,
        **TRAINING,
    )
    train_once(config)
    run = TrainedSimilar.open(folder)
    done = read_json(folder / "DONE")
    measures = vector_measures(options.data, run, teacher)
    generation = {}
    for top_p in NUCLEI:
        generation[f"top_p {top_p}"] = generation_measures(options, run, teacher, top_p)
    results = {
        "training_seconds": done["seconds"],
        "teacher_seconds": seconds,  # near 0 where all vectors were in the file
        "steps": done["steps"],
        **measures,
        "generation": generation,
    }
    report("similar_en", results, options.results, kind="study")
    return results


if __name__ == "__main__":
    with bad_input_ends("similar_en"):
        main()
