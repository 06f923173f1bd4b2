"""Pairs and groups of similar texts, with and without labels."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from experiments.data.pairs import read_groups
from tests.fuzz.target import Target

GROUPS = [["a cat", "one cat"], ["a dog", "one dog", "dogs"], ["birds", "a bird"]] * 4
LABELLED = [[f"text {i}", f"another {i}", i / 10] for i in range(8)]
OBJECTS = [{"sentence1": a, "sentence2": b, "score": c} for a, b, c in LABELLED]
NLI = [[f"text {i}", f"another {i}", "entailment"] for i in range(8)]


def make(folder: Path) -> Sequence[Path]:
    lines = {
        "groups.jsonl": map(json.dumps, GROUPS),
        "labelled.jsonl": map(json.dumps, LABELLED),
        "objects.jsonl": map(json.dumps, OBJECTS),
        "nli.tsv": map("\t".join, NLI),
        "groups.tsv": map("\t".join, GROUPS),
        "labelled.csv": (f'"{a}",{b},{c}' for a, b, c in LABELLED),
        "named.csv": ["sentence1,sentence2,score", *(f"{a},{b},{c}" for a, b, c in LABELLED)],
        "semicolons.csv": ["s1;s2;score", *(f"{a};{b};{c}" for a, b, c in LABELLED)],
        "groups.json": [json.dumps(GROUPS)],
        "objects.json": [json.dumps(OBJECTS)],
        "lists.jsonl": (json.dumps({"query": a, "pos": [b, f"{b} too"]}) for a, b, _ in LABELLED),
    }
    paths = []
    for name, rows in lines.items():
        path = folder / name
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        paths.append(path)
    packed = folder / "labelled.jsonl.gz"
    packed.write_bytes(gzip.compress((folder / "labelled.jsonl").read_bytes(), mtime=0))
    return [*paths, packed]


def read(path: Path) -> None:
    groups = read_groups(path)
    groups.fingerprint()
    groups.split(0.3, 0)


TARGETS: list[Target] = [Target("pairs", make, read)]
