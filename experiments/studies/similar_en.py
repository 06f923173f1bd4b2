"""English sentences from scratch within an hour: vectors distilled from a teacher, and similar captions written.

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
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments import train_similar
from experiments.benchmarks.harness import report
from experiments.sentences.teacher import read_table, write_table
from experiments.studies.minilm import MiniLM
from experiments.studies.sentences import (
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
from univae.checkpoint import read_json
from univae.decoding.sampling import Sampling
from univae.sentence.tokenizer import normalised
from univae.sentence.trained import TrainedSimilar

SHAPE = {
    "width": 256,
    "heads": 4,
    "layers": 3,
    "max_length": 40,
    "vocab_size": 8000,
    "lowercase": True,
}
TRAINING: dict[str, Any] = {
    "stage": "distil",
    "lr": 1e-3,
    "batch_size": 32,
    "generation_share": 0.5,
    "noise_rows": 0.2,
}
TRAINING |= {"ema": 0.999, "held_out": 0.01, "validate_every": 2000, "validation_pairs": 300}
NUCLEI = (0.95, 0.8)  # the library's, as published, and one that a small model's texts gain from


def texts(data: Path, limit: int) -> tuple[list[list[str]], list[list[str]]]:
    """Group of two texts and more, and single texts, at most ``limit`` of each source if it is not 0."""
    cut = slice(limit or None)
    groups = captions(data, "train")[cut]
    singles = list[list[str]]()
    for a, b, same in labelled(rows_of(data / "qqp_20k" / "dev.tsv.gz", "\t"), 1, 0)[cut]:
        if same:
            groups.append([a, b])
        else:
            singles += [[a], [b]]
    translated: dict[str, list[str]] = {}
    for english, chinese, *_ in rows_of(data / "tatoeba_cmn_eng" / "cmn.txt.gz", "\t")[cut]:
        translated.setdefault(chinese, []).append(english)
    sentences = [list(dict.fromkeys(english)) for english in translated.values()]
    groups += [several for several in sentences if len(several) > 1]
    singles += [one for one in sentences if len(one) == 1]
    return groups, singles


def taught(given: argparse.Namespace, teacher: MiniLM) -> tuple[Path, Path, float]:
    """Files of the texts and of the teacher's vectors, and the seconds these took."""
    given.out.mkdir(parents=True, exist_ok=True)
    groups, singles = texts(given.data, given.limit)
    words = [
        [word]
        for word in teacher.vocabulary()[:: max(1, 20000 // given.limit) if given.limit else 1]
    ]
    everything = [*groups, *singles, *words]
    written = write_groups(given.out / "texts.jsonl", everything)
    table = given.out / "teacher.npz"
    begun = time.perf_counter()
    known, vectors = (
        read_table(table) if table.exists() else ([], np.empty((0, teacher.width), np.float16))
    )
    missing = sorted({text.strip() for group in everything for text in group} - set(known))
    if missing:
        write_table(
            table,
            [*known, *missing],
            np.concatenate((vectors, teacher.encode(missing).astype(np.float16))),
        )
    return written, table, time.perf_counter() - begun


def vectors(given: argparse.Namespace, run: TrainedSimilar, teacher: MiniLM) -> dict[str, Any]:
    """Each encoder's correlation, recall and AUROC: the student's, its teacher's, and that of averaged word vectors."""
    scored = stsb(given.data, "en", "test")
    groups = captions(given.data, "val")
    questions = labelled(rows_of(given.data / "qqp_20k" / "test.tsv.gz", "\t"), 1, 0)
    return {
        name: {
            "stsb_test_spearman": spearman_of(encode, scored),
            "captions": recall(encode, groups),
            "qqp_test_auroc": auroc(encode, questions),
        }
        for name, encode in (
            ("student", run.encode),
            ("teacher", teacher.encode),
            ("word average", teacher.words),
        )
    }


def written(
    given: argparse.Namespace, run: TrainedSimilar, teacher: MiniLM, top_p: float
) -> dict[str, Any]:
    """What is written for held-out captions, judged by the teacher, and for questions with a negation."""
    sources = [group[0] for group in captions(given.data, "val")[: given.generate]]
    sampling = Sampling(top_p=top_p)
    reseed(0, "study")
    found = [[text for text, _ in best] for best in run.similar(sources, 5, sampling=sampling)]
    pairs = [(source, text) for source, best in zip(sources, found, strict=True) for text in best]
    cosine = cosines(teacher.encode, pairs)
    others = [*sources[1:], *sources[:1]]  # the next one's, so that no caption meets itself
    shuffled = cosines(teacher.encode, list(zip(sources, others, strict=True)))
    questions = [
        a for a, _, _ in labelled(rows_of(given.data / "qqp_20k" / "test.tsv.gz", "\t"), 1, 0)
    ]
    negated = [text for text in questions if flips("", text) and len(text.split()) < 15][
        : given.generate // 2
    ]
    answers = run.similar(negated, 5, sampling=sampling)
    turned = [
        (text, other) for text, best in zip(negated, answers, strict=True) for other, _ in best
    ]
    return {
        "sources": len(sources),
        "results": len(pairs),
        "equal_to_source": sum(
            normalised(source, lowercase=run.text.lowercase) == text for source, text in pairs
        )
        / max(len(pairs), 1),
        "distinct_2": distinct_2([text for _, text in pairs]),
        "teacher_cosine_top_5": float(cosine.mean()),
        "teacher_cosine_random_captions": float(shuffled.mean()),
        "negation_flips_captions": float(np.mean([flips(*pair) for pair in pairs])),
        "negation_flips_negated_questions": float(np.mean([flips(*pair) for pair in turned])),
        "examples": [[source, *best] for source, best in zip(sources[:5], found[:5], strict=True)],
    }


def main(argv: list[str] | None = None) -> dict[str, Any]:
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
        "--generate", type=int, default=200, help="held-out captions something is written for"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    teacher = MiniLM()
    everything, table, seconds = taught(given, teacher)
    folder = given.out / "distil"
    options: dict[str, Any] = {
        **SHAPE,
        **TRAINING,
        "threads": given.threads,
        "minutes": given.minutes,
    }
    train_once(train_similar.Config.of(pairs=(everything,), teacher=table, out=folder, **options))
    run = TrainedSimilar.open(folder)
    done = read_json(folder / "DONE")
    results = {
        "training_seconds": done["seconds"],
        "teacher_seconds": seconds,  # of vectors computed once, and near 0 where they were kept
        "steps": done["steps"],
        **vectors(given, run, teacher),
        "generation": {f"top_p {top_p}": written(given, run, teacher, top_p) for top_p in NUCLEI},
    }
    report("similar_en", results, given.results, kind="study")
    return results


if __name__ == "__main__":
    main()
