"""Codes of images and of table rows by a VAE."""

from pathlib import Path

from density.trained import TrainedDensity
from experiments.evaluation.codes import Codes
from experiments.evaluation.open_run import open_run
from experiments.images.rows import Rows

__all__ = ["encode_rows"]


def encode_rows(path: Path, device: str, source: str, limit: int) -> Codes:
    """Return the codes (rows, d): the modes of all latent layers side by side."""
    run = open_run(TrainedDensity, path, device)
    rows = Rows(run, source)
    x = rows.inputs(slice(0, limit or len(rows)))
    codes = run.modes(x).flatten(1).float().cpu().numpy()
    return Codes(codes, run_notes=run.notes, notes=rows.notes)
