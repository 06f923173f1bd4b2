"""Vectors of texts by a sentence model."""

from pathlib import Path

from experiments.data.texts import read_texts
from experiments.evaluation.codes import Codes
from experiments.evaluation.open_run import open_run
from experiments.sentences.notes import sentence_notes
from univae.sentence.trained import TrainedSimilar
from univae.text.tally import Tally

__all__ = ["encode_sentences"]


def encode_sentences(path: Path, device: str, source: str, limit: int) -> Codes:
    """Return the vectors (texts, width), and how many texts were ``cut`` to the model's length."""
    texts, reading_notes = read_texts(source, limit)
    run = open_run(TrainedSimilar, path, device)
    tally = Tally()
    vectors = run.encode(texts, tally)
    notes = [*reading_notes, *sentence_notes(run, source, tally)]
    return Codes(vectors, {"cut": tally.cut}, run_notes=run.notes, notes=notes)
