"""Registries of what commands do with each kind of run, by the class of the run.

A command that works for several kinds finds its row with :func:`row_of_kind`, or with
:func:`use_of` where some of its options are for some kinds. A new kind is a row in each table of an
operation that it supports, here or in the command's module, and for each other command a reason in
:mod:`experiments.evaluation.abilities`. Text models are the last row of a table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from density.trained import TrainedDensity
from experiments.evaluation.abilities import refusal
from experiments.evaluation.codes import Encoder
from experiments.evaluation.file_codec import AnyFileCodec
from experiments.evaluation.scorer import Scorer, ScoringTask
from experiments.images.codec import ArrayCodec
from experiments.images.codes import encode_rows
from experiments.images.scorer import ArrayScorer
from experiments.sentences.codes import encode_sentences
from experiments.text.codec import TextCodec
from experiments.text.codes import encode_texts
from experiments.text.scorer import TextScorer
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.run_folder import BEST, RunFolder
from univae.sentence.trained import TrainedSimilar
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = [
    "CODECS",
    "ENCODERS",
    "EXPORTED",
    "SCORERS",
    "Use",
    "exportable",
    "open_codec",
    "row_of_kind",
    "use_of",
]

Row = TypeVar("Row")


@runtime_checkable
class RunOptions(Protocol):
    """The options of a command that takes one run folder, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def run(self) -> Path:
        """The run folder."""


Options = TypeVar("Options", bound=RunOptions, contravariant=True)


@dataclass(frozen=True)
class Use(Generic[Options]):
    """What a command does with the runs of one kind."""

    trained: type[Trained]
    options: tuple[str, ...]  # options that not every kind of run uses
    act: Callable[[Options], JsonObject]


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

# The encoder of data to latent codes or vectors.
ENCODERS: Mapping[type[Trained], Encoder] = {
    TrainedDensity: encode_rows,
    TrainedSimilar: encode_sentences,
    TrainedText: encode_texts,
}

# The kinds of run that an export can replace. The average of a GAN is part of its training state.
EXPORTED: Sequence[type[Trained]] = (TrainedDensity, TrainedSimilar, TrainedText)


def row_of_kind(path: Path, table: Mapping[type[Trained], Row], command: str = "") -> Row:
    """Return the row of a table for the kind of a run folder.

    Raises:
        InputError: the folder is no run folder, or the table has no row for its kind; the message
            says why, and which commands take such runs.
    """
    folder = RunFolder.open(path)
    for trained, row in table.items():
        if trained.opens(folder):
            return row
    *_, last = table
    raise refusal(path, last, command)


def use_of(config: Options, table: Mapping[type[Trained], Use[Any]], command: str) -> Use[Options]:
    """Return the use of a command for the kind of its run.

    Raises:
        InputError: see :func:`row_of_kind`; or an option is given that only other kinds use.
    """
    use = row_of_kind(config.run, table, command)
    defaults = {field.name: field.default for field in fields(config)}
    for name in sorted({name for row in table.values() for name in row.options}):
        value = getattr(config, name)
        if name in use.options or value == defaults[name]:
            continue
        owners = [row.trained.description for row in table.values() if name in row.options]
        raise InputError(
            f"{command}: {name} is an option for {' and '.join(owners)}, and "
            f"{config.run} is the run of {use.trained.description}; got {name}={value}; drop it"
        )
    return use


def exportable(path: Path, command: str) -> RunFolder:
    """Return the folder of a run that an export can replace.

    Raises:
        InputError: the folder is no run folder, or an export cannot replace its kind of run.
    """
    folder = RunFolder.open(path)
    if not any(kind.opens(folder) for kind in EXPORTED):
        raise refusal(path, EXPORTED[-1], command)
    return folder


def open_codec(path: Path, fingerprint: bytes | None = None) -> AnyFileCodec:
    """Open the codec of a run, for files of one fingerprint if there is one.

    A file that was written before the run was calibrated needs the weights from before. Where no
    checkpoint has the fingerprint, it is the codec of the best one.

    Raises:
        InputError: the folder is no run folder, or its kind of run has no codec.
    """
    new_codec = row_of_kind(path, CODECS, "compress")
    codec = new_codec(path, BEST)
    if fingerprint in (None, codec.fingerprint):
        return codec
    for name in RunFolder.open(path).uncalibrated():
        earlier = new_codec(path, name)
        if earlier.fingerprint == fingerprint:
            return earlier
    return codec
