"""Notes on the input of a sentence model: texts that were cut, and unknown words."""

from experiments.data.text_notes import cut_notes, unknown_notes
from univae.sentence.trained import TrainedSimilar
from univae.text.tally import Tally

__all__ = ["sentence_notes"]


def sentence_notes(run: TrainedSimilar, source: str, tally: Tally) -> list[str]:
    """Return notes on how many texts of ``source`` were cut, and how many words are unknown."""
    notes = cut_notes(source, tally, run.text.max_length)
    return [*notes, *unknown_notes(source, tally.unknown_words, tally.words)]
