"""The table of generated texts in a sentence model's report."""

from collections.abc import Sequence

from experiments.training.task import reseed
from univae.checkpoint import JsonObject, write_json
from univae.sentence.trained import TrainedSimilar

__all__ = ["write_samples"]

COUNT = 5  # generated texts per source


def write_samples(run: TrainedSimilar, texts: Sequence[str], seed: int = 0) -> JsonObject:
    """Write ``samples/similar.json``, with generated texts for each of ``texts``; return it."""
    reseed(seed, "showcase")
    rows: list[list[str]] = []
    for source, ranked in zip(texts, run.similar(texts, COUNT), strict=True):
        cell = source
        for text, cosine in ranked:
            rows.append([cell, text, f"{cosine:.3f}"])
            cell = ""  # only the first row of a source names it
    content = {
        "title": "Similar texts, generated and ranked by the model itself",
        "kind": "texts",
        "columns": ["held-out text", "generated", "cosine"],
        "rows": rows,
        "note": "For each text the best of 100 draws (top-p 0.95), "
        "without duplicates and the text itself.",
    }
    write_json(run.folder.subfolder("samples") / "similar.json", content)
    return content
