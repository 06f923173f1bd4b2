"""What a sentence model writes, shown: the tables that its report holds."""

from collections.abc import Sequence
from typing import Any

from experiments.sentences.run import SimilarRun
from experiments.training.task import reseed
from univae.checkpoint import write_json

__all__ = ["write_samples"]

EACH = 5  # texts shown for a source


def write_samples(run: SimilarRun, texts: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Write ``samples/similar.json``: generated texts for each of ``texts``, with their cosine, and returns it."""
    reseed(seed, "showcase")
    rows = [
        [source if place == 0 else "", text, f"{score:.3f}"]
        for source, found in zip(texts, run.similar(texts, EACH), strict=True)
        for place, (text, score) in enumerate(found)
    ]
    shown = {
        "title": "Similar texts, generated and ranked by the model itself",
        "kind": "texts",
        "columns": ["held-out text", "generated", "cosine"],
        "rows": rows,
        "note": "For each text the best of 100 draws (top-p 0.95), without duplicates and the text itself.",
    }
    write_json(run.run.subfolder("samples") / "similar.json", shown)
    return shown
