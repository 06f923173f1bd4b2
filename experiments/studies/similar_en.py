"""English sentences from scratch within an hour: distilled vectors, and similar captions written.

Groups: the five captions of a picture, questions marked as duplicates, English sentences with one
Chinese translation; single texts: the other questions and sentences, and the whole words of the
teacher's vocabulary. The teacher's vectors of all of them are computed once and kept. From random
weights the model learns to imitate the teacher's cosines and to write at once, without the
published stage before that contrasts and writes. STS-B is only ever a test.

``python -m experiments.studies.similar_en --data data --out runs/similar_en --results
results/similar_en.json``
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from experiments import train_similar
from experiments.benchmarks.harness import report
from experiments.sentences.teacher import read_table, write_table
from experiments.studies.minilm import MiniLM
from experiments.studies.sentences import (
    Pair,
    auroc,
    captions,
    cosines,
    distinct_2,
    flips,
    labelled,
    recall,
    rows_of,
    spearman_of,
    stsb,
    train_once,
    write_groups,
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
# top_p: the library's, as published, and one with which the texts of a small model are better
NUCLEI = (0.95, 0.8)
RESULTS = 5  # texts written for a source
EXAMPLES = 5  # sources shown with their texts
LONGEST_NEGATED = 15  # words of a question with a negation
LIMITED_WORDS = 20000  # of the vocabulary, thinned out by --limit

Group = list[str]


def texts(data: Path, limit: int) -> tuple[list[Group], list[Group]]:
    """Return groups of two texts and more, and single texts.

    At most ``limit`` of each source; 0: all.
    """
    first = slice(limit or None)
    groups = captions(data, "train")[first]
    singles: list[Group] = []
    for a, b, is_duplicate in questions(data, "dev")[first]:
        if is_duplicate:
            groups.append([a, b])
        else:
            singles += [[a], [b]]

    by_translation: dict[str, list[str]] = {}
    for english, chinese, *_ in rows_of(data / "tatoeba_cmn_eng" / "cmn.txt.gz", "\t")[first]:
        by_translation.setdefault(chinese, []).append(english)
    sentences = [list(dict.fromkeys(english)) for english in by_translation.values()]
    groups += [group for group in sentences if len(group) > 1]
    singles += [group for group in sentences if len(group) == 1]
    return groups, singles


def questions(data: Path, part: str) -> list[Pair]:
    """Return the pairs of questions, labelled 1 where they are duplicates."""
    return labelled(rows_of(data / "qqp_20k" / f"{part}.tsv.gz", "\t"), 1, 0)


def taught(arguments: argparse.Namespace, teacher: MiniLM) -> tuple[Path, Path, float]:
    """Write the texts and the teacher's vectors; return both files and the seconds it took.

    Vectors that are in the file already are not computed again.
    """
    arguments.out.mkdir(parents=True, exist_ok=True)
    groups, singles = texts(arguments.data, arguments.limit)
    stride = max(1, LIMITED_WORDS // arguments.limit) if arguments.limit else 1
    words = [[word] for word in teacher.vocabulary()[::stride]]
    all_groups = [*groups, *singles, *words]
    texts_file = write_groups(arguments.out / "texts.jsonl", all_groups)

    start = time.perf_counter()
    table = arguments.out / "teacher.npz"
    known: Sequence[str] = []
    known_vectors = np.empty((0, teacher.width), np.float16)
    if table.exists():
        known, known_vectors = read_table(table)
    missing = sorted({text.strip() for group in all_groups for text in group} - set(known))
    if missing:
        new_vectors = teacher.encode(missing).astype(np.float16)
        write_table(table, [*known, *missing], np.concatenate((known_vectors, new_vectors)))
    return texts_file, table, time.perf_counter() - start


def vectors(data: Path, run: TrainedSimilar, teacher: MiniLM) -> JsonObject:
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


def written(
    arguments: argparse.Namespace, run: TrainedSimilar, teacher: MiniLM, top_p: float
) -> JsonObject:
    """Write texts for held-out captions, which the teacher judges, and for negated questions."""
    sampling = Sampling(top_p=top_p)
    sources = [group[0] for group in captions(arguments.data, "val")[: arguments.generate]]
    reseed(0, "study")
    results = []
    for ranked in run.similar(sources, RESULTS, sampling=sampling):
        results.append([text for text, _ in ranked])
    pairs = []
    for source, similar_texts in zip(sources, results, strict=True):
        pairs += [(source, text) for text in similar_texts]
    cosine = cosines(teacher.encode, pairs)
    next_sources = [*sources[1:], *sources[:1]]  # rotated: no caption is paired with itself
    shuffled = cosines(teacher.encode, list(zip(sources, next_sources, strict=True)))

    negated = negated_questions(arguments.data, arguments.generate // 2)
    answers = []
    for source, ranked in zip(
        negated, run.similar(negated, RESULTS, sampling=sampling), strict=True
    ):
        answers += [(source, text) for text, _ in ranked]

    equal = 0
    for source, text in pairs:
        equal += normalised(source, lowercase=run.text.lowercase) == text
    examples = zip(sources[:EXAMPLES], results[:EXAMPLES], strict=True)
    return {
        "sources": len(sources),
        "results": len(pairs),
        "equal_to_source": equal / max(len(pairs), 1),
        "distinct_2": distinct_2([text for _, text in pairs]),
        "teacher_cosine_top_5": float(cosine.mean()),
        "teacher_cosine_random_captions": float(shuffled.mean()),
        "negation_flips_captions": float(np.mean([flips(*pair) for pair in pairs])),
        "negation_flips_negated_questions": float(np.mean([flips(*pair) for pair in answers])),
        "examples": [[source, *similar_texts] for source, similar_texts in examples],
    }


def negated_questions(data: Path, limit: int) -> list[str]:
    """Return at most ``limit`` short test questions with a negation."""
    negated = []
    for question, _, _ in questions(data, "test"):
        if flips("", question) and len(question.split()) < LONGEST_NEGATED:
            negated.append(question)
    return negated[:limit]


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
        help="folder of texts, vectors and runs; what is there stays",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=45.0,
        help="of training; the teacher's vectors take a quarter of an hour besides",
    )
    parser.add_argument("--threads", type=int, default=2)
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
    texts_file, table, seconds = taught(options, teacher)
    folder = options.out / "distil"
    config = train_similar.Config.of(
        pairs=(texts_file,),
        teacher=table,
        out=folder,
        threads=options.threads,
        minutes=options.minutes,
        **SHAPE,
        **TRAINING,
    )
    train_once(config)
    run = TrainedSimilar.open(folder)
    done = read_json(folder / "DONE")
    measures = vectors(options.data, run, teacher)
    generation = {}
    for top_p in NUCLEI:
        generation[f"top_p {top_p}"] = written(options, run, teacher, top_p)
    results = {
        "training_seconds": done["seconds"],
        "teacher_seconds": seconds,  # of vectors computed now: near 0 where all were in the file
        "steps": done["steps"],
        **measures,
        "generation": generation,
    }
    report("similar_en", results, options.results, kind="study")
    return results


if __name__ == "__main__":
    main()
