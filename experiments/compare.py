"""``univae compare``: several runs side by side, grouped by their configuration without the seed.

The numbers of a run are those of its best validation, and of its best validation within a time that
all runs have trained for.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.outputs import Output
from experiments.evaluation.open_run import open_run
from experiments.gans.samples import strip
from experiments.reports import plots
from experiments.reports.figures import png
from experiments.reports.html import brief, document, embed, flat, paragraph, section, table
from experiments.reports.validations import NUMBERS, best_validation
from experiments.training.comparison import UNCOMPARED
from experiments.training.settings import MINUTES
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.errors import InputError, brief_list
from univae.rules import Rule, at_least, check, reading
from univae.run_folder import RunFolder

__all__ = ["Config", "compare", "equal_time", "groups", "main"]

# Metrics with a curve -> title, name in a sentence, label of the axis.
CURVES = {
    "nll_nats": ("Validation", "Validation NLL", "validation NLL (nats per datum)"),
    "frechet_distance": ("Fréchet distance", "Fréchet distance", "Fréchet distance"),
}
TITLE = "Runs side by side"
TITLE_BYTES = 500  # beginning of a page that contains its title
DEFAULT_CLOCK = "wall"  # of runs of versions without the option --clock
CLOCK_WORDS = {DEFAULT_CLOCK: "of elapsed time", "processor": "of processor time"}
SLACK = 1.05  # times that count as equal differ by this factor at most


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes one page that compares runs, with means over seeds, curves and images."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders of any kind
    out: Path = Path("compare.html")  # the page to write
    overwrite: bool = False  # replace an existing output file
    # minutes of training in the table at equal time; 0: those of the shortest run
    minutes: float = 0.0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "minutes": at_least(0, MINUTES, "0 (those of the shortest run) or more")
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the ``path`` of the page."""
    return {"path": str(compare(config.runs, config.out, config.minutes, config.overwrite))}


def compare(
    runs: Sequence[Path], path: Path, minutes: float = 0.0, overwrite: bool = False
) -> Path:
    """Write a page on runs grouped by configuration without seed, and return its path.

    It has means and standard deviations over seeds, curves, and images of GANs. The best validation
    of a run is the one with the smallest negative log-likelihood (of a GAN: Fréchet distance),
    among all and among those within equal time. A page that this command wrote is replaced, another
    file only with ``overwrite``.

    Raises:
        InputError: there is no run, a folder is no run, or the path must not be replaced.
    """
    if not runs:
        raise InputError(
            "compare: needs at least one run folder; got none; give the --out of training commands"
        )
    members_of = groups(map(RunFolder.open, runs))
    out = Output(path, overwrite, runs, replaces=_is_comparison).check_file()
    with reading(brief_list(runs)):
        sections = [_at_best(members_of), *_at_equal_time(members_of, minutes)]
        sections += _curves(members_of)
        sections.append(section("Images generated from the same latents", _strips(members_of)))
    out.write_text(document(TITLE, sections))
    return path


def groups(runs: Iterable[RunFolder]) -> dict[str, list[RunFolder]]:
    """Return the runs by group; the configurations of a group differ in the seed only.

    The names of the groups are 1, 2, ... in the order of their first runs.
    """
    members_of: dict[str, list[RunFolder]] = {}
    for folder in runs:
        key = json.dumps(settings(folder), sort_keys=True)
        members_of.setdefault(key, []).append(folder)
    return {str(number): members for number, members in enumerate(members_of.values(), start=1)}


def settings(folder: RunFolder) -> JsonObject:
    """Return the configuration of a run without seed and folder."""
    uncompared = ("seed", *UNCOMPARED)
    return {name: value for name, value in flat(folder.config).items() if name not in uncompared}


def equal_time(runs: Sequence[RunFolder]) -> float | None:
    """Return the seconds of the shortest training, times :data:`SLACK`; None if unknown."""
    shortest = float("inf")
    for folder in runs:
        times = [row.get("seconds") for row in folder.rows("validation")]
        seconds = [time for time in times if time is not None]
        if not seconds:
            return None
        shortest = min(shortest, max(seconds))
    return SLACK * shortest


def _is_comparison(path: Path) -> bool:
    """Return whether a file is a page that this command wrote."""
    with path.open("rb") as file:
        return f"<title>{TITLE}</title>".encode() in file.read(TITLE_BYTES)


def _at_best(members_of: Mapping[str, Sequence[RunFolder]]) -> str:
    note = paragraph(
        "Mean ± standard deviation over the seeds of a group, every run at its best validation."
    )
    return note + _feature_spaces(_all_runs(members_of)) + _side_by_side(members_of)


def _at_equal_time(members_of: Mapping[str, Sequence[RunFolder]], minutes: float) -> list[str]:
    """Return the section on validations within ``minutes``, or within equal time if that is 0.

    There is none for a single run, or where the time is unknown.
    """
    runs = _all_runs(members_of)
    seconds = 60 * minutes or equal_time(runs)
    if seconds is None or len(runs) == 1:
        return []
    note = f"The best validation in the first {brief(seconds / 60)} minutes, {_clock(runs)}."
    return [section("At equal time", paragraph(note) + _side_by_side(members_of, seconds))]


def _curves(members_of: Mapping[str, Sequence[RunFolder]]) -> list[str]:
    sections = []
    for name, (title, quantity, label) in CURVES.items():
        curves = {
            f"group {group}": [folder.rows("validation") for folder in members]
            for group, members in members_of.items()
        }
        figure = plots.overlay(curves, name, label)
        alt = f"{quantity} by step, one colour a group, one line a run"
        sections.append(section(title, embed(png(figure), alt) if figure else ""))
    return sections


def _strips(members_of: Mapping[str, Sequence[RunFolder]]) -> str:
    """Return a row of images of each GAN's best checkpoint.

    GANs with latents of one width show the same latents.
    """
    strips = []
    for group, members in members_of.items():
        for folder in members:
            if not TrainedGan.opens(folder) or not (folder.path / "checkpoints/best").exists():
                continue
            images = strip(open_run(TrainedGan, folder.path, "cpu"))
            if images:
                title = f"group {group}: {folder.path} (seed {folder.config.get('seed')})"
                strips.append(paragraph(title) + embed(images, title))
    return "".join(strips)


def _all_runs(members_of: Mapping[str, Sequence[RunFolder]]) -> list[RunFolder]:
    return [folder for members in members_of.values() for folder in members]


def _clock(runs: Sequence[RunFolder]) -> str:
    """Return the clocks of runs, in words."""
    clocks = {folder.config.get("clock", DEFAULT_CLOCK) for folder in runs}
    if len(clocks) > 1:
        return "some of elapsed time and some of processor time: these differ"
    return CLOCK_WORDS.get(clocks.pop(), "of elapsed time")


def _feature_spaces(runs: Sequence[RunFolder]) -> str:
    """Return a warning where distances were computed in several feature spaces, or nothing."""
    names = set()
    for folder in runs:
        for row in folder.rows("validation"):
            if row.get("feature_space"):
                names.add(str(row["feature_space"]))
    if len(names) < 2:
        return ""
    text = (
        "Distances are of several feature spaces, and cannot be compared between them: "
        f"{', '.join(sorted(names))}. Train with --features FOLDER to share one."
    )
    return paragraph(text, "warning")


def _side_by_side(
    members_of: Mapping[str, Sequence[RunFolder]], within: float | None = None
) -> str:
    """Return the table of the groups: options that differ, metrics, and the runs.

    Validations after ``within`` seconds of training are ignored; None: there is no limit.
    """
    options = {group: settings(members[0]) for group, members in members_of.items()}
    differing = _differing(list(options.values()))
    limit = (within,) if within is not None else ()
    best = {
        group: [best_validation(folder, *limit) for folder in members]
        for group, members in members_of.items()
    }
    present = {key for rows in best.values() for row in rows for key in row}
    numbers = {key: label for key, label in NUMBERS.items() if key in present}

    cells = []
    for group, members in members_of.items():
        values = [brief(options[group].get(option)) for option in differing]
        spreads = [_spread(best[group], key) for key in numbers]
        runs = [f"{folder.path} (seed {folder.config.get('seed')})" for folder in members]
        cells.append([group, *values, *spreads, "\n".join(runs)])
    return table(["group", *differing, *numbers.values(), "runs"], cells)


def _differing(options: Sequence[JsonObject]) -> list[str]:
    """Return the names of the options with more than one value."""
    names = dict.fromkeys(name for values in options for name in values)
    return [name for name in names if len({brief(values.get(name)) for values in options}) > 1]


def _spread(rows: Sequence[JsonObject], name: str) -> str:
    """Return mean and standard deviation of a number."""
    numbers = [row.get(name) for row in rows]
    values = [float(number) for number in numbers if number is not None]
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return brief(mean(values)) + spread if values else ""


if __name__ == "__main__":
    run(Config, main)
