"""Notes on the input of a text VAE: texts longer than its training set's, and unknown words."""

from collections.abc import Sequence

from experiments.data.text_notes import longer_notes, unknown_notes
from univae.text.tally import Tally
from univae.vae.trained import TrainedText

__all__ = ["notes_of_tally", "text_notes", "text_tally"]


def text_notes(
    run: TrainedText, source: str, texts: Sequence[str], *, written: bool = False
) -> list[str]:
    """Return notes on how many texts are longer than the model's, and on unknown words.

    Args:
        run: the text model.
        source: the origin of the texts, with which notes begin.
        texts: the texts.
        written: whether the command decodes texts, which end at ``max_length`` tokens.
    """
    return notes_of_tally(run, source, text_tally(run, texts), written=written)


def text_tally(run: TrainedText, texts: Sequence[str]) -> Tally:
    """Return the counts of texts that :func:`notes_of_tally` takes; ``cut`` are those longer."""
    length = run.trained_length
    return Tally(
        texts=len(texts),
        # the end token makes a text one token longer
        cut=sum(len(ids) >= length for ids in run.tokenizer.encode_batch(texts)),
        words=sum(len(text.split()) for text in texts),
        unknown_words=sum(map(run.tokenizer.unknown, texts)),
    )


def notes_of_tally(
    run: TrainedText, source: str, tally: Tally, *, written: bool = False
) -> list[str]:
    """Return :func:`text_notes` of any number of texts by their counts."""
    decoded = run.model.config.max_length if written else 0
    notes = longer_notes(source, tally.cut, tally.texts, run.trained_length, decoded=decoded)
    return [*notes, *unknown_notes(source, tally.unknown_words, tally.words)]
