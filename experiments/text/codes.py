"""Codes of texts by a text VAE."""

from pathlib import Path

from experiments.data.texts import read_texts
from experiments.evaluation.codes import Codes
from experiments.evaluation.open_run import open_run
from experiments.text.notes import text_notes
from univae.vae.trained import TrainedText

__all__ = ["encode_texts"]


def encode_texts(path: Path, device: str, source: str, limit: int) -> Codes:
    """Return the codes (texts, latent layers, latent width): the modes of the latents."""
    texts, reading_notes = read_texts(source, limit)
    run = open_run(TrainedText, path, device)
    notes = [*reading_notes, *text_notes(run, source, texts)]
    return Codes(run.encode(texts), run_notes=run.notes, notes=notes)
