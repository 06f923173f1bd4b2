"""Vectors of texts by a sentence model."""

from collections.abc import Sequence
from pathlib import Path

from experiments.data.texts import text_blocks
from experiments.evaluation.codes import CodeBlock, Codes
from experiments.evaluation.open_run import open_run
from experiments.sentences.notes import sentence_notes
from univae.sentence.trained import READ_AHEAD, TrainedSimilar
from univae.text.lines import Removed
from univae.text.tally import Tally

__all__ = ["encode_sentences"]


def encode_sentences(path: Path, device: str, source: str, limit: int) -> Codes:
    """Return the vectors (texts, width), and how many texts were ``cut`` to the model's length."""
    run = open_run(TrainedSimilar, path, device)
    removed = Removed()

    def encode(texts: Sequence[str]) -> CodeBlock:
        tally = Tally()
        return CodeBlock(run.encode(texts, tally), tally)

    def notes(tally: Tally) -> list[str]:
        return [*removed.notes(source), *sentence_notes(run, source, tally)]

    return Codes(
        text_blocks(source, READ_AHEAD, limit, removed), encode, notes, run.notes, ("cut",)
    )
