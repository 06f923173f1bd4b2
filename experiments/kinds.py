"""Open what belongs to a run by the kind of the run."""

from pathlib import Path

from experiments.images.codec import Arrays
from experiments.text.codec import Texts
from experiments.training.run_folder import Run

__all__ = ["open_coder"]


def open_coder(path: Path) -> "Arrays | Texts":
    """The codec of a run, by what trained it."""
    return Arrays(path) if Run.open(path).config.get("command") == "train-density" else Texts(path)
