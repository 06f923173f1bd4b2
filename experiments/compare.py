"""``univae compare``: several runs side by side, grouped by configuration minus seed, at best and at equal time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.outputs import Output
from experiments.gans.run import GanRun
from experiments.gans.samples import strip
from experiments.reports import plots
from experiments.reports.figures import png
from experiments.reports.html import brief, document, embed, flat, paragraph, section, table
from experiments.reports.validations import NUMBERS, best_validation
from experiments.training.run_folder import UNCOMPARED, Run
from experiments.training.settings import MINUTES
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["Config", "compare", "equal_time", "groups", "main"]

# What curves are drawn of, and how it is said.
CURVES = {
    "nll_nats": ("Validation", "Validation NLL", "validation NLL (nats per datum)"),
    "frechet_distance": ("Fréchet distance", "Fréchet distance", "Fréchet distance"),
}
TITLE = "Runs side by side"
SLACK = 1.05  # a run that took at most so many times as long as the fastest had the same time


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes one page that compares runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders
    out: Path = Path("compare.html")
    overwrite: bool = False  # replace an existing output file
    # of training that every run has in the table at equal time; 0: as many as the shortest run
    minutes: float = 0.0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "minutes": at_least(0, MINUTES, "0 (those of the shortest run) or more")
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> dict[str, Any]:
    """Return the ``path`` of the page."""
    return {"path": str(compare(config.runs, config.out, config.minutes, config.overwrite))}


def compare(
    runs: Sequence[Path], path: Path, minutes: float = 0.0, overwrite: bool = False
) -> Path:
    """Write a page on runs grouped by configuration minus seed: means, spread over seeds, curves, and what GANs make.

    A run counts with its validation of the smallest negative log-likelihood (a GAN: Fréchet
    distance), once of all its validations and once of those within equal time. A page that this
    command wrote is replaced, another file only with ``overwrite``. :class:`InputError` for no run,
    a folder that is no run, or a path that must not be replaced.
    """
    if not runs:
        raise InputError(
            "compare: needs at least one run folder; got none; name the folders training commands wrote"
        )
    found = groups(map(Run.open, runs))
    out = Output(path, overwrite, runs, replaces=_is_comparison).check_file()
    members = [run for group in found.values() for run in group]
    note = paragraph(
        "Mean ± standard deviation over the seeds of a group, every run at its best validation."
    )
    sections = [note + _spaces(members) + _side_by_side(found)]
    seconds = 60 * minutes or equal_time(members)
    if seconds is not None and len(members) > 1:
        said = paragraph(
            f"The best validation in the first {brief(seconds / 60)} minutes, {_clock(members)}."
        )
        sections.append(section("At equal time", said + _side_by_side(found, seconds)))
    for name, (title, what, label) in CURVES.items():
        curves = {
            f"group {group}": [run.rows("validation") for run in runs]
            for group, runs in found.items()
        }
        figure = plots.overlay(curves, name, label)
        alt = f"{what} by step, one colour a group, one line a run"
        sections.append(section(title, embed(png(figure), alt) if figure else ""))
    sections.append(section("What GANs make of the same latents", _strips(found)))
    out.write_text(document(TITLE, sections))
    return path


def _is_comparison(path: Path) -> bool:
    """Return whether a file is a page that this command wrote."""
    with path.open("rb") as file:
        return f"<title>{TITLE}</title>".encode() in file.read(500)


def groups(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Run of one configuration but for the seed, under the numbers 1, 2, ...

    in the order of their first.
    """
    alike: dict[str, list[Run]] = {}
    for opened in runs:
        alike.setdefault(json.dumps(settings(opened), sort_keys=True), []).append(opened)
    return {str(i): members for i, members in enumerate(alike.values(), start=1)}


def equal_time(runs: Sequence[Run]) -> float | None:
    """Seconds of training that all runs had, up to a twentieth; ``None`` if one tells no time."""
    last = [
        max((row["seconds"] for row in run.rows("validation") if "seconds" in row), default=None)
        for run in runs
    ]
    known = [seconds for seconds in last if seconds is not None]
    return SLACK * min(known) if len(known) == len(last) else None


def _clock(runs: Sequence[Run]) -> str:
    clocks = {run.config.get("clock", "wall") for run in runs}
    if len(clocks) > 1:
        return "some by the clock on the wall and some by the processor's: not quite the same time"
    return "of processor time" if clocks == {"processor"} else "by the clock on the wall"


def _spaces(runs: Sequence[Run]) -> str:
    names = {
        str(row["feature_space"])
        for run in runs
        for row in run.rows("validation")
        if row.get("feature_space")
    }
    if len(names) < 2:
        return ""
    told = "Distances are of several feature spaces, and cannot be compared between them"
    return paragraph(
        f"{told}: {', '.join(sorted(names))}. Train with --features FOLDER to share one.", "warning"
    )


def _side_by_side(groups: Mapping[str, Sequence[Run]], within: float | None = None) -> str:
    options = {name: settings(members[0]) for name, members in groups.items()}
    names = dict.fromkeys(option for each in options.values() for option in each)
    differing = [
        option
        for option in names
        if len({brief(each.get(option)) for each in options.values()}) > 1
    ]
    limit = (within,) if within is not None else ()
    best = {
        name: [best_validation(run, *limit) for run in members] for name, members in groups.items()
    }
    numbers = {
        key: label
        for key, label in NUMBERS.items()
        if any(key in row for rows in best.values() for row in rows)
    }
    rows = []
    for name, members in groups.items():
        chosen = [brief(options[name].get(option)) for option in differing]
        runs = "\n".join(f"{run.path} (seed {run.config.get('seed')})" for run in members)
        rows.append([name, *chosen, *(_spread(best[name], key) for key in numbers), runs])
    return table(["group", *differing, *numbers.values(), "runs"], rows)


def _spread(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [float(row[name]) for row in rows if name in row]
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return brief(mean(values)) + spread if values else ""


def _strips(groups: Mapping[str, Sequence[Run]]) -> str:
    """A row of images of each GAN's best checkpoint.

    Of GANs with one width of latents, from the same latents.
    """
    drawn = []
    for name, members in groups.items():
        gans = [
            r
            for r in members
            if r.config.get("command") == "train-gan" and (r.path / "checkpoints/best").exists()
        ]
        for opened in gans:
            if made := strip(GanRun(opened.path, "cpu")):
                title = f"group {name}: {opened.path} (seed {opened.config.get('seed')})"
                drawn.append(paragraph(title) + embed(made, title))
    return "".join(drawn)


def settings(run: Run) -> dict[str, Any]:
    """Return what tells one experiment from another: the configuration but for the seed and the folder."""
    return {
        name: value for name, value in flat(run.config).items() if name not in ("seed", *UNCOMPARED)
    }


if __name__ == "__main__":
    run(Config, main)
