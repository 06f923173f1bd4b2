"""Registries of what commands do with each kind of run, by the class of the run.

A command that works for several kinds finds its row with :func:`row_of_kind`. A new kind is a row
in each table of an operation that it supports. Text models are the last row, which the message
names for a run in no row.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from density.trained import TrainedDensity
from experiments.evaluation.codes import Encoder
from experiments.evaluation.file_codec import AnyFileCodec
from experiments.evaluation.scorer import Scorer, ScoringTask
from experiments.images.codec import ArrayCodec
from experiments.images.scorer import ArrayScorer
from experiments.sentences.codes import encode_sentences
from experiments.text.codec import TextCodec
from experiments.text.codes import encode_texts
from experiments.text.scorer import TextScorer
from univae.run_folder import BEST, RunFolder
from univae.sentence.trained import TrainedSimilar
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["CODECS", "ENCODERS", "EXPORTED", "SCORERS", "open_codec", "row_of_kind"]

Row = TypeVar("Row")

# The lossless codec of a run folder.
CODECS: Mapping[type[Trained], Callable[[Path, str], AnyFileCodec]] = {
    TrainedDensity: ArrayCodec,
    TrainedText: TextCodec,
}

# The scorer of data by log-likelihood.
SCORERS: Mapping[type[Trained], Callable[[ScoringTask], Scorer]] = {
    TrainedDensity: ArrayScorer,
    TrainedText: TextScorer,
}

# The encoder of texts to latent codes or vectors.
ENCODERS: Mapping[type[Trained], Encoder] = {
    TrainedSimilar: encode_sentences,
    TrainedText: encode_texts,
}

# The kinds of run that an export can replace. The average of a GAN is part of its training state.
EXPORTED: Sequence[type[Trained]] = (TrainedDensity, TrainedSimilar, TrainedText)


def row_of_kind(path: Path, table: Mapping[type[Trained], Row]) -> Row:
    """Return the row of a table for the kind of a run folder.

    Raises:
        InputError: the folder is no run folder, or the table has no row for its kind.
    """
    folder = RunFolder.open(path)
    for trained, row in table.items():
        if trained.opens(folder):
            return row
    *_, last = table
    raise last.wrong_kind(path)


def open_codec(path: Path, fingerprint: bytes | None = None) -> AnyFileCodec:
    """Open the codec of a run, for files of one fingerprint if there is one.

    A file that was written before the run was calibrated needs the weights from before. Where no
    checkpoint has the fingerprint, it is the codec of the best one.

    Raises:
        InputError: the folder is no run folder, or its kind of run has no codec.
    """
    new_codec = row_of_kind(path, CODECS)
    codec = new_codec(path, BEST)
    if fingerprint in (None, codec.fingerprint):
        return codec
    for name in RunFolder.open(path).uncalibrated():
        earlier = new_codec(path, name)
        if earlier.fingerprint == fingerprint:
            return earlier
    return codec
