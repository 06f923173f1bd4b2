"""Codes of images and of table rows by a VAE."""

from pathlib import Path

from density.trained import ROWS, TrainedDensity
from experiments.evaluation.codes import CodeBlock, Codes
from experiments.evaluation.open_run import open_run
from experiments.images.rows import Rows
from univae.text.tally import Tally

__all__ = ["encode_rows"]

BLOCK = 10 * ROWS  # rows


def encode_rows(path: Path, device: str, source: str, limit: int) -> Codes:
    """Return the codes (rows, d): the modes of all latent layers side by side."""
    run = open_run(TrainedDensity, path, device)
    rows = Rows(run, source)
    count = min(limit or len(rows), len(rows))
    blocks = (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))

    def encode(block: slice) -> CodeBlock:
        codes = run.modes(rows.inputs(block)).flatten(1).float().cpu().numpy()
        return CodeBlock(codes, Tally(texts=len(codes)))

    return Codes(blocks, encode, lambda tally: rows.notes, run.notes)
