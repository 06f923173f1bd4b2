"""Published data sets in the layouts in which their authors give them away.

The stories take a folder of data sets: ``ptb/ptb.*.txt.gz``, ``multi30k_en/*.en.gz``,
``tatoeba_cmn_eng/cmn.txt.gz``, ``stsb/stsb-en-*.csv.gz`` (sentence, sentence, score),
``qqp_20k/*.tsv.gz`` (label, question, question, number) and ``cifar10_lossless4k/`` (sheets of
pictures, one a row).
"""

import csv
import gzip
import shutil
from pathlib import Path

import numpy as np

__all__ = ["write_captions", "write_classes", "write_ptb", "write_quora", "write_sts"]

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
SIDE = 32
PARTS = ("train", "dev", "test")
QUORA_HEADER = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")


def write_ptb(folder: Path, published: Path) -> None:
    """Write ``ptb.train.txt`` and ``ptb.test.txt``."""
    for part in ("train", "test"):
        name = f"ptb.{part}.txt"
        with gzip.open(published / "ptb" / f"{name}.gz") as source:
            (folder / name).write_bytes(source.read())


def write_captions(folder: Path, published: Path) -> None:
    """Write a folder of captions, compressed files among them, and a table of translations."""
    captions = folder / "captions"
    captions.mkdir()
    source = published / "multi30k_en"
    shutil.copy(source / "task1.val.en.gz", captions / "val.txt.gz")
    with gzip.open(source / "task1.train.en.gz") as train:
        (captions / "train.txt").write_bytes(train.read())
    with gzip.open(published / "tatoeba_cmn_eng" / "cmn.txt.gz") as sentences:
        (folder / "cmn.tsv").write_bytes(sentences.read())


def write_sts(folder: Path, published: Path) -> None:
    """Write ``sts-train.csv`` ... as the benchmark does: no header, separated by tabs.

    The columns are genre, file, year, number, score, sentence, sentence.
    """
    for part in PARTS:
        rows = csv.reader(_lines(published / "stsb" / f"stsb-en-{part}.csv.gz"))
        with (folder / f"sts-{part}.csv").open("w", encoding="utf-8") as file:
            for number, (first, second, score) in enumerate(rows):
                place = f"main-captions\tMSRvid\t2012test\t{number:04}"
                file.write(f"{place}\t{float(score):.3f}\t{first}\t{second}\n")


def write_quora(folder: Path, published: Path) -> None:
    """Write ``quora_duplicate_questions.tsv`` as published, and a file of questions."""
    questions = []
    with (folder / "quora_duplicate_questions.tsv").open("w", encoding="utf-8") as file:
        file.write("\t".join(QUORA_HEADER) + "\n")
        for number, line in enumerate(_lines(published / "qqp_20k" / "dev.tsv.gz")):
            label, first, second, *_ = line.rstrip("\n").split("\t")
            cells = [str(number), str(2 * number + 1), str(2 * number + 2), first, second, label]
            file.write("\t".join(cells) + "\n")
            questions.append(first)
    (folder / "questions.txt").write_text("\n".join(questions) + "\n", "utf-8")
    (folder / "asked.txt").write_text("\n".join(questions[5:2000:400]) + "\n", "utf-8")


def write_classes(folder: Path, published: Path, count: int = 1000) -> None:
    """Write colour pictures as PNG files in folders of their classes."""
    from PIL import Image

    source = published / "cifar10_lossless4k"
    labels = np.load(source / "labels.npy")[:count]
    sheet = np.asarray(Image.open(source / "cifar10_batch_0.png").convert("RGB"))
    pictures = sheet.reshape(-1, SIDE, SIDE, 3)  # a row of the sheet is a picture
    for name in CLASSES:
        (folder / "pictures" / name).mkdir(parents=True)
    for number, label in enumerate(labels):
        path = folder / "pictures" / CLASSES[label] / f"{number:04}.png"
        Image.fromarray(pictures[number]).save(path)
    (folder / "pictures" / "README.txt").write_text("Pictures of ten classes.\n", "utf-8")


def _lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().splitlines(keepends=True)
