"""Codes of texts by a text VAE."""

from collections.abc import Sequence
from pathlib import Path

from experiments.evaluation.codes import Codes
from experiments.evaluation.open_run import open_run
from experiments.text.notes import text_notes
from univae.vae.trained import TrainedText

__all__ = ["encode_texts"]


def encode_texts(path: Path, device: str, source: str, texts: Sequence[str]) -> Codes:
    """Return the codes (texts, latent layers, latent width): the modes of the latents."""
    run = open_run(TrainedText, path, device)
    codes = run.encode(texts)
    return Codes(codes, run_notes=run.notes, notes=text_notes(run, source, texts))
