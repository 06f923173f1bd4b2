"""``univae explore``: what a trained model does, in the browser of this machine."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from density.trained import TrainedDensity
from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.texts import read_texts
from experiments.evaluation.open_run import open_run
from experiments.explorer.gans import gan_panels
from experiments.explorer.page import require_library, serving
from experiments.explorer.panels import Panel
from experiments.explorer.rows import row_panels
from experiments.explorer.sentences import Corpus, sentence_panels
from experiments.explorer.texts import CODES, text_panels
from experiments.images.rows import Rows
from experiments.kinds import Use, use_of
from experiments.training.stopping import Interrupted
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, at_least, check
from univae.sentence.trained import TrainedSimilar
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["EXPLORERS", "Config", "main"]

LARGEST_PORT = 65_535
PAUSE = 0.5  # seconds between two looks at signals, where a system needs them


@dataclass(frozen=True, kw_only=True)
class Config:
    """Shows what a trained model does in the browser of this machine, until Ctrl-C ends it.

    The page is served to this machine alone, and fetches nothing from elsewhere.
    """

    run: tyro.conf.Positional[Path]  # the run folder
    # data of the run's kind: texts, images, rows, or the sentences to search; empty: those that an
    # image or table model was trained on, and texts that a text model draws
    data: str = ""
    port: int = 0  # port of the page on 127.0.0.1; 0: the first free one from 7860 on
    open: bool = False  # open the page in the browser
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "port": at_least(0, LARGEST_PORT, "0 (the first free one) or more"),
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Serve the page until the command is interrupted.

    Raises:
        Interrupted: always; its result has the address of the page, ``url``.
    """
    require_library()
    return use_of(config, EXPLORERS, "explore").act(config)


def _explore_texts(config: Config) -> JsonObject:
    run = open_run(TrainedText, config.run, config.device)
    texts: Sequence[str] = ()
    notes: Sequence[str] = ()
    if config.data:
        texts, notes = read_texts(config.data, CODES)
    return _serve(config, run, text_panels(run, texts, config.data), notes)


def _explore_sentences(config: Config) -> JsonObject:
    run = open_run(TrainedSimilar, config.run, config.device)
    corpus = Corpus(run, config.data) if config.data else None
    return _serve(config, run, sentence_panels(run, corpus), corpus.notes if corpus else ())


def _explore_rows(config: Config) -> JsonObject:
    run = open_run(TrainedDensity, config.run, config.device)
    rows: Rows | str
    try:
        rows = Rows(run, config.data)
    except InputError as error:
        if config.data:
            raise
        rows = str(error)  # the data of the training are not on this machine
    notes = [rows] if isinstance(rows, str) else rows.notes
    return _serve(config, run, row_panels(run, rows), notes)


def _explore_gan(config: Config) -> JsonObject:
    run = open_run(TrainedGan, config.run, config.device)
    return _serve(config, run, gan_panels(run), ())


def _serve(
    config: Config, run: Trained, panels: Sequence[Panel], notes: Sequence[str]
) -> JsonObject:
    """Serve panels until a signal.

    Raises:
        Interrupted: with the result.
    """
    print_notes(notes)
    title = run.path.resolve().name
    with serving(title, repr(run), panels, config.port, browser=config.open) as url:
        print(f"{url} shows {config.run}; Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            while True:
                time.sleep(PAUSE)
        except KeyboardInterrupt as error:
            result = with_notes({"run": str(config.run), "url": url}, [*run.notes, *notes])
            raise Interrupted("ended", result) from error


EXPLORERS: Mapping[type[Trained], Use[Any]] = {
    TrainedGan: Use(TrainedGan, (), _explore_gan),
    TrainedDensity: Use(TrainedDensity, ("data",), _explore_rows),
    TrainedSimilar: Use(TrainedSimilar, ("data",), _explore_sentences),
    TrainedText: Use(TrainedText, ("data",), _explore_texts),
}


if __name__ == "__main__":
    run(Config, main)
