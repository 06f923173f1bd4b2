"""Every command on every kind of run, as a table: it works, or there is a one-line reason.

``python -m experiments.examples.command_matrix --runs TEXT DENSITY TABLE GAN SIMILAR``

Each command is called with small arguments, on copies of the runs. The data are those that the runs
were trained on, from their ``config.json``.
"""

import importlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from experiments.cli.commands import COMMANDS, parse, run
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.kinds import trained_class
from univae.rules import check
from univae.run_folder import RunFolder

__all__ = ["ARGUMENTS", "WORKS", "Config", "Trial", "attempt", "main", "trial"]

WORKS = "works"
TEXTS = ("a man sees a ball", "the cat sees the small dog", "a boy likes the old fish")
FEW = ("--limit", "3")
QUICK = (*FEW, "--samples", "4", "--proposal", "posterior")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Calls every command on every run, and prints a table."""

    runs: tuple[Path, ...]  # run folders, a column each

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Trial:
    """A run to try commands on, and what they read and write."""

    run: Path  # a copy
    kind: str
    data: str  # data of the run, for commands that take any
    scratch: Path  # a folder for outputs

    @property
    def takes_texts(self) -> bool:
        """Whether the run is of texts."""
        return self.kind in ("train-text", "train-similar")

    @property
    def texts(self) -> str:
        """A file of a few texts."""
        path = self.scratch / "texts.txt"
        path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
        return str(path)

    @property
    def source(self) -> str:
        """Data for commands that take texts, images or rows."""
        return self.texts if self.takes_texts else self.data

    @property
    def two(self) -> tuple[str, str]:
        """Two texts; of other data the numbers of two rows, or the seeds of two latents."""
        return (TEXTS[0], TEXTS[1]) if self.takes_texts else ("0", "1")

    @property
    def where(self) -> tuple[str, ...]:
        """The option of the data, where rows are given by their numbers."""
        return ("--data", self.data) if self.kind == "train-density" else ()


Arguments: TypeAlias = Callable[[Trial], Sequence[str]]


def _evaluated(t: Trial) -> Sequence[str]:
    by_kind = {
        "train-gan": ("--count", "40"),
        "train-similar": ("--data", t.data),
    }
    return by_kind.get(t.kind, ("--data", t.source, *QUICK))


# Command -> its arguments after the run folder.
ARGUMENTS: Mapping[str, Arguments] = {
    "sample": lambda t: ("--count", "2"),
    "reconstruct": lambda t: ("--data", t.source, *FEW),
    "interpolate": lambda t: (*t.two, "--steps", "3", *t.where),
    "edit": lambda t: (t.two[0], "--layers", "0", "--count", "2", *t.where),
    "encode": lambda t: ("--data", t.source, "--out", f"{t.scratch}/codes.npy", *FEW),
    "impute": lambda t: ("--data", t.source, "--out", f"{t.scratch}/filled.csv"),
    "likelihood": lambda t: ("--data", t.source, *QUICK),
    "compress": lambda t: (t.source, f"{t.scratch}/packed", "--ideal-samples", "0"),
    "decompress": lambda t: (f"{t.scratch}/packed", f"{t.scratch}/unpacked{_suffix(t)}"),
    "export": lambda t: (f"{t.scratch}/key.univae",),
    "calibrate": lambda t: ("--steps", "2", *t.where),
    "stretch": lambda t: (f"{t.scratch}/longer", "--length", "128"),
    "evaluate": _evaluated,
    "evaluate-gan": lambda t: ("--count", "40"),
    "audit": lambda t: ("--count", "20"),
    "similar": lambda t: (TEXTS[0], "--count", "2", "--samples", "4"),
    "search": lambda t: (TEXTS[0], "--corpus", t.texts, "--count", "2"),
    "report": lambda t: (),
    "compare": lambda t: ("--out", f"{t.scratch}/compared.html"),
}


def main(config: Config) -> JsonObject:
    """Print the table on stderr, in Markdown; return it as command -> run -> outcome."""
    table: dict[str, JsonObject] = {command: {} for command in ARGUMENTS}
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(config.runs):
            scratch = Path(folder) / str(number)
            scratch.mkdir()
            tried = trial(path, scratch)
            for command in ARGUMENTS:
                table[command][str(path)] = _reason(attempt(command, tried))
    names = [str(path) for path in config.runs]
    print(f"| command | {' | '.join(names)} |", file=sys.stderr)
    print(f"|---|{'---|' * len(names)}", file=sys.stderr)
    for command, outcomes in table.items():
        print(f"| {command} | {' | '.join(outcomes[name] for name in names)} |", file=sys.stderr)
    return {"table": table}


def trial(path: Path, scratch: Path) -> Trial:
    """Copy a run into a folder, to try commands on.

    Raises:
        InputError: the folder is no run folder, or of a kind that cannot be opened.
    """
    folder = RunFolder.open(path)
    kind = trained_class(folder).kind
    copy = Path(shutil.copytree(path, scratch / "run"))
    data = folder.config.get("data", "") or folder.config.get("pairs", [""])[0]
    return Trial(copy, kind, str(data), scratch)


def attempt(command: str, tried: Trial) -> str:
    """Call a command; return :data:`WORKS`, or its message."""
    module = importlib.import_module(COMMANDS[command][0])
    arguments = [str(tried.run), *ARGUMENTS[command](tried)]
    try:
        result = module.main(parse(module.Config, arguments, f"univae {command}"))
    except InputError as error:
        return str(error).replace(str(tried.run), "RUN").replace(str(tried.scratch), "FOLDER")
    return WORKS if result else f"{command} returned nothing"


def _reason(message: str) -> str:
    """Return the part of a message that says why, without the list of other commands."""
    _, _, reason = message.partition(": ")
    return reason.split("; for this run")[0] if "; for this run" in message else message


def _suffix(t: Trial) -> str:
    return ".txt" if t.takes_texts else ".npy"


if __name__ == "__main__":
    run(Config, main)
