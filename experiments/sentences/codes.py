"""Vectors of texts by a sentence model."""

from collections.abc import Sequence
from pathlib import Path

from experiments.evaluation.codes import Codes
from experiments.evaluation.open_run import open_run
from experiments.sentences.notes import sentence_notes
from univae.sentence.trained import TrainedSimilar
from univae.text.tally import Tally

__all__ = ["encode_sentences"]


def encode_sentences(path: Path, device: str, source: str, texts: Sequence[str]) -> Codes:
    """Return the vectors (texts, width), and how many texts were ``cut`` to the model's length."""
    run = open_run(TrainedSimilar, path, device)
    tally = Tally()
    vectors = run.encode(texts, tally)
    notes = sentence_notes(run, source, tally)
    return Codes(vectors, {"cut": tally.cut}, run_notes=run.notes, notes=notes)
