"""Codes of texts by a text VAE."""

from collections.abc import Sequence
from pathlib import Path

from experiments.data.texts import text_blocks
from experiments.evaluation.codes import CodeBlock, Codes
from experiments.evaluation.open_run import open_run
from experiments.text.notes import notes_of_tally, text_tally
from univae.text.lines import Removed
from univae.text.tally import Tally
from univae.vae.trained import ROWS, TrainedText

__all__ = ["encode_texts"]

BLOCK = 8 * ROWS  # texts


def encode_texts(path: Path, device: str, source: str, limit: int) -> Codes:
    """Return the codes (texts, latent layers, latent width): the modes of the latents."""
    run = open_run(TrainedText, path, device)
    removed = Removed()

    def encode(texts: Sequence[str]) -> CodeBlock:
        return CodeBlock(run.encode(texts), text_tally(run, texts))

    def notes(tally: Tally) -> list[str]:
        return [*removed.notes(source), *notes_of_tally(run, source, tally)]

    return Codes(text_blocks(source, BLOCK, limit, removed), encode, notes, run.notes)
