"""Notes on the input of a text VAE: texts longer than its training set's, and unknown words."""

from collections.abc import Sequence

from experiments.data.text_notes import longer_notes, unknown_notes
from univae.vae.trained import TrainedText

__all__ = ["text_notes"]


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
    max_length = run.model.config.max_length
    # the end token makes a text one token longer
    longer = sum(len(ids) >= max_length for ids in run.tokenizer.encode_batch(texts))
    unknown = sum(map(run.tokenizer.unknown, texts))
    words = sum(len(text.split()) for text in texts)
    notes = longer_notes(source, longer, len(texts), max_length, written=written)
    return [*notes, *unknown_notes(source, unknown, words)]
