"""Notes on texts that a text VAE reads: those longer than its own, and words it does not know."""

from collections.abc import Sequence

from experiments.data.text_notes import longer_notes, unknown_notes
from univae.vae.trained import TrainedText

__all__ = ["text_notes"]


def text_notes(
    run: TrainedText, source: str, texts: Sequence[str], *, written: bool = False
) -> list[str]:
    """Return notes on how many texts are longer than the model's, and how many words are unknown.

    Args:
        run: the text model.
        source: where the texts are from; the notes begin with it.
        texts: the texts.
        written: whether the command decodes texts, which end at ``max_length`` tokens.
    """
    max_length = run.model.config.max_length
    longer = sum(len(ids) >= max_length for ids in run.tokenizer.encode_batch(texts))  # and END
    unknown = sum(map(run.tokenizer.unknown, texts))
    words = sum(len(text.split()) for text in texts)
    notes = longer_notes(source, longer, len(texts), max_length, written=written)
    return [*notes, *unknown_notes(source, unknown, words)]
