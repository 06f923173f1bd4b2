"""Training from Python: the functions of the training commands.

Each calls its command in this process and opens the run that it wrote. They are found as entry
points of the group ``univae.trainers``, so that no import points upward.

The commands limit how long waiting threads spin; a program that calls these functions on a machine
with other work is started with that policy itself, as ``univae doctor`` shows it.
"""

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from univae.command_package import load_point
from univae.entry_points import TRAINERS, points
from univae.trained import Trained

__all__ = ["train_density", "train_gan", "train_similar", "train_text"]

Data: TypeAlias = Any  # a path, a built-in name, or data in memory; None with resume=True
Option: TypeAlias = Any  # the value of an option of the command


def train_text(
    texts: Data = None,
    out: str | Path = "",
    *,
    preset: str | None = None,
    progress: bool = True,
    report: bool = True,
    **options: Option,
) -> Trained:
    """Train a text VAE as ``univae train-text`` does, and open its run.

    ``run = univae.train_text(texts, "runs/mine", preset="tiny", minutes=3)``

    Data in memory are written to ``OUT/in_memory_data``, so that the run can be resumed.

    Args:
        texts: the file of one text per line, a list of files as ``Path``, ``python-docs``, or texts
            in memory: a list, an array, a Series or a DataFrame. A line end inside a text becomes a
            space.
        out: the run folder to write, new or empty.
        preset: a preset of the command, ``tiny`` for instance.
        progress: print what the command prints to stderr. Without it nothing is printed by this
            process while it trains.
        report: write samples and ``report.html`` into the run after training.
        options: any option of the command, with underscores: ``steps=500``, ``lr=1e-3``,
            ``minutes=3``, ``resume=True``; ``univae train-text --help`` lists them.

    Raises:
        InputError: an option does not exist or breaks its rule, or the data cannot be used.
        experiments.training.stopping.Interrupted: Ctrl-C; the last step is saved.
        experiments.training.stopping.TrainingFailed: the loss is not finite.
    """
    settings = Settings(preset, progress, report)
    return _train("train-text", texts, out, options, settings)


def train_density(
    data: Data = None,
    out: str | Path = "",
    *,
    preset: str | None = None,
    progress: bool = True,
    report: bool = True,
    **options: Option,
) -> Trained:
    """Train an image or table VAE as ``univae train-density`` does, and open its run.

    Args:
        data: a file, a folder or a built-in set, or rows in memory: an array of images
            (N, channels, height, width) or (N, height, width), an array of columns (N, columns),
            or a DataFrame of pandas, whose columns keep their names and types.
        out: see :func:`train_text`.
        preset: see :func:`train_text`.
        progress: see :func:`train_text`.
        report: see :func:`train_text`.
        options: any option of the command; ``univae train-density --help`` lists them.

    Raises:
        InputError: see :func:`train_text`, with the other exceptions.
    """
    settings = Settings(preset, progress, report)
    return _train("train-density", data, out, options, settings)


def train_gan(
    data: Data = None,
    out: str | Path = "",
    *,
    preset: str | None = None,
    progress: bool = True,
    report: bool = True,
    **options: Option,
) -> Trained:
    """Train a GAN as ``univae train-gan`` does, and open its run.

    Args:
        data: see :func:`train_density`.
        out: see :func:`train_text`.
        preset: see :func:`train_text`.
        progress: see :func:`train_text`.
        report: see :func:`train_text`.
        options: any option of the command; ``univae train-gan --help`` lists them.

    Raises:
        InputError: see :func:`train_text`, with the other exceptions.
    """
    settings = Settings(preset, progress, report)
    return _train("train-gan", data, out, options, settings)


def train_similar(
    pairs: Data = None,
    out: str | Path = "",
    *,
    preset: str | None = None,
    progress: bool = True,
    report: bool = True,
    **options: Option,
) -> Trained:
    """Train a sentence model as ``univae train-similar`` does, and open its run.

    Args:
        pairs: a file or several, or pairs in memory: tuples (a, b) of similar texts, or
            (a, b, label), or a DataFrame of two or three columns.
        out: see :func:`train_text`.
        preset: see :func:`train_text`.
        progress: see :func:`train_text`.
        report: see :func:`train_text`.
        options: any option of the command; ``univae train-similar --help`` lists them.

    Raises:
        InputError: see :func:`train_text`, with the other exceptions.
    """
    settings = Settings(preset, progress, report)
    return _train("train-similar", pairs, out, options, settings)


class Settings(NamedTuple):
    """How a command is called, besides its options."""

    preset: str | None
    progress: bool
    report: bool


def _train(
    command: str, data: Data, out: str | Path, options: dict[str, Option], settings: Settings
) -> Trained:
    """Call the trainer of a command, and open the run that it wrote."""
    trainer = load_point(points(TRAINERS)[command])
    run: Trained = trainer(data, out, options=options, **settings._asdict())
    return run
