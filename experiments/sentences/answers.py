"""The answers of a search: for every query the nearest texts of a corpus, as JSON."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from experiments.data.array_outputs import json_line
from experiments.data.outputs import Output
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["Answer", "require_jsonl", "write_jsonl"]

JSONL = ".jsonl"


class Answer(NamedTuple):
    """A query, and the texts nearest to it, the best first."""

    query: str
    texts: Sequence[str]
    scores: Sequence[float]  # cosines
    rows: Sequence[int]  # numbers of the texts in the corpus, from 0

    def pairs(self) -> list[list[object]]:
        """Return [text, cosine] for every text."""
        return [list(pair) for pair in zip(self.texts, self.scores, strict=True)]

    def records(self) -> Iterator[JsonObject]:
        """Yield query, rank from 1, text, score and row of every text."""
        ranked = zip(self.texts, self.scores, self.rows, strict=True)
        for rank, (text, score, row) in enumerate(ranked, start=1):
            yield {"query": self.query, "rank": rank, "text": text, "score": score, "row": row}


def require_jsonl(out: Output | None) -> None:
    """Raise :class:`InputError` for an output whose name does not end in .jsonl."""
    if out is not None and out.path.suffix.lower() != JSONL:
        raise InputError(
            f"{out.option} {out.path}: results are written as {JSONL}; give a name that ends so"
        )


def write_jsonl(out: Output, records: Iterable[JsonObject]) -> None:
    """Write one JSON object per line, atomically."""
    with out.file() as path, path.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json_line(record))
