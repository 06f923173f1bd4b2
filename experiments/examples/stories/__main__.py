"""Tell the stories: ``python -m experiments.examples.stories --published DATA --out FOLDER``.

Every story gets a folder of its own, with the user's files and the runs, and all are written as one
transcript, ``FOLDER/transcript.txt``, which is also printed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from experiments.cli.commands import run
from experiments.examples.stories import (
    engineering,
    gan_research,
    search,
    statistics,
    text_research,
)
from experiments.examples.stories.story import Story, tell
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, above, check

__all__ = ["STORIES", "Config", "main"]

STORIES: Mapping[str, Story] = {
    "text": text_research.STORY,
    "statistics": statistics.STORY,
    "engineering": engineering.STORY,
    "gan": gan_research.STORY,
    "search": search.STORY,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Runs every command of five stories of new users, and writes what they print."""

    published: (
        Path  # a folder of published data sets, see experiments/examples/stories/published.py
    )
    out: Path  # a new folder for the files and runs
    stories: tuple[str, ...] = tuple(STORIES)  # which
    minutes: float = 1.0  # of each training

    RULES: ClassVar[Mapping[str, Rule]] = {"minutes": above(0, 1e4)}

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Tell the stories.

    Returns:
        the transcript's path, the number of steps, and of those with an unexpected exit code.
    """
    unknown = [name for name in config.stories if name not in STORIES]
    if unknown:
        raise InputError(f"--stories must be of {', '.join(STORIES)}; got {unknown[0]}")
    if config.out.exists():
        raise InputError(f"--out {config.out} exists; give a new folder")
    config.out.mkdir(parents=True)
    path = config.out / "transcript.txt"
    steps = 0
    unexpected = 0
    with path.open("w", encoding="utf-8") as file:

        def say(line: str) -> None:
            print(line, file=file, flush=True)
            print(line, flush=True)

        for name in config.stories:
            folder = config.out.resolve() / name
            told = tell(STORIES[name], config.published.resolve(), folder, config.minutes, say)
            steps += told[0]
            unexpected += told[1]
    return {"transcript": str(path), "steps": steps, "unexpected": unexpected}


if __name__ == "__main__":
    run(Config, main)
