"""``univae compare``: several runs side by side, grouped by configuration minus seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import tyro

from experiments import plots
from experiments.cli import run
from experiments.pages import brief, document, embed, flat, paragraph, section, table
from experiments.report import NUMBERS, best_validation
from experiments.run import UNCOMPARED, Run
from univae.checkpoint import write_text_atomic
from univae.errors import InputError

__all__ = ["Config", "compare", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes one page that compares runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders
    out: Path = Path("compare.html")


def main(config: Config) -> dict[str, Any]:
    """Returns the ``path`` of the page."""
    return {"path": str(compare(config.runs, config.out))}


def compare(runs: Sequence[Path], path: Path) -> Path:
    """Writes a page on runs grouped by configuration minus seed: means, spread over seeds, and curves.

    A run counts with its validation of the smallest negative log-likelihood. :class:`InputError` for no run, or a
    folder that is no run.
    """
    if not runs:
        raise InputError("compare: needs at least one run folder; got none; name the folders training commands wrote")
    alike: dict[str, list[Run]] = {}
    for opened in map(Run.open, runs):
        alike.setdefault(json.dumps(settings(opened), sort_keys=True), []).append(opened)
    groups = {str(i): members for i, members in enumerate(alike.values(), start=1)}
    curves = {f"group {name}": [run.rows("validation") for run in members] for name, members in groups.items()}
    figure = plots.overlay(curves)
    drawn = embed(plots.png(figure), "Validation NLL by step, one colour a group, one line a run") if figure else ""
    note = paragraph("Mean ± standard deviation over the seeds of a group, every run at its best validation.")
    sections = [note + _side_by_side(groups), section("Validation", drawn)]
    write_text_atomic(path, document("Runs side by side", sections))
    return Path(path)


def _side_by_side(groups: Mapping[str, Sequence[Run]]) -> str:
    options = {name: settings(members[0]) for name, members in groups.items()}
    names = dict.fromkeys(option for each in options.values() for option in each)
    differing = [option for option in names if len({brief(each.get(option)) for each in options.values()}) > 1]
    best = {name: [best_validation(run) for run in members] for name, members in groups.items()}
    numbers = {
        key: label for key, label in NUMBERS.items() if any(key in row for rows in best.values() for row in rows)
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


def settings(run: Run) -> dict[str, Any]:
    """Returns what tells one experiment from another: the configuration but for the seed and the folder."""
    return {name: value for name, value in flat(run.config).items() if name not in ("seed", *UNCOMPARED)}


if __name__ == "__main__":
    run(Config, main)
