"""``univae compare``: several runs side by side, grouped by their configuration without the seed.

The numbers of a run are those of its best validation, and of its best validation within a time that
all runs have trained for.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.outputs import Output, output_file
from experiments.evaluation.open_run import open_run
from experiments.gans.samples import strip
from experiments.reports.blocks import Block, Charts, Note, Part, Picture, facts, text_table
from experiments.reports.charts import Chart
from experiments.reports.comparison import Compared, compared, data_sets, feature_spaces
from experiments.reports.comparison_blocks import metrics_table, options_table
from experiments.reports.comparison_files import WRITERS
from experiments.reports.comparison_text import metrics_text
from experiments.reports.groups import Groups, group_runs
from experiments.reports.metric_curves import COMPARED, overlay
from experiments.reports.page import document
from experiments.reports.validations import ReadOnce
from experiments.reports.values import brief
from experiments.training.metric_names import duration_text
from experiments.training.settings import MINUTES
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.errors import InputError, brief_list
from univae.rules import Rule, at_least, check, reading
from univae.run_folder import RunFolder

__all__ = ["Config", "compare", "equal_time", "main"]

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
    csv: Path | None = None  # file for the table of metrics: a line a metric and group
    latex: Path | None = None  # file for the table of metrics as a LaTeX tabular
    json: Path | None = None  # file for the table of metrics as a list of JSON objects
    overwrite: bool = False  # replace existing output files
    # minutes of training in the table at equal time; 0: those of the shortest run
    minutes: float = 0.0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "minutes": at_least(0, MINUTES, "0 (those of the shortest run) or more")
    }

    def __post_init__(self) -> None:
        check(self)

    @property
    def files(self) -> dict[str, Path]:
        """The files of the table, by their options."""
        paths = {option: getattr(self, option) for option in WRITERS}
        return {option: path for option, path in paths.items() if path is not None}


def main(config: Config) -> JsonObject:
    """Return the ``path`` of the page, and those of the files of the table by their options.

    The table is printed on stderr.
    """
    values = _write(config.runs, config.out, config.minutes, config.overwrite, config.files)
    table = metrics_text(values)
    if table:
        print(table, file=sys.stderr)
    paths = {option: str(path) for option, path in config.files.items()}
    return {"path": str(config.out), **paths}


def compare(
    runs: Sequence[Path],
    path: Path,
    minutes: float = 0.0,
    overwrite: bool = False,
    files: Mapping[str, Path] | None = None,
) -> Path:
    """Write a page on runs grouped by configuration without seed, and return its path.

    It has means and standard deviations over seeds, curves, and images of GANs. The best validation
    of a run is the one with the smallest negative log-likelihood (of a GAN: Fréchet distance),
    among all and among those within equal time. A page that this command wrote is replaced, another
    file only with ``overwrite``. ``files`` are written with the table, by format: ``csv``,
    ``latex``, ``json``.

    Raises:
        InputError: there is no run, a folder is no run, or a path must not be replaced.
    """
    _write(runs, path, minutes, overwrite, files or {})
    return path


def _write(
    runs: Sequence[Path],
    path: Path,
    minutes: float,
    overwrite: bool,
    files: Mapping[str, Path],
) -> Sequence[Compared]:
    """Write the page and the files, and return the metrics of every group."""
    if not runs:
        raise InputError(
            "compare: needs at least one run folder; got none; give the --out of training commands"
        )
    folders = [ReadOnce.open(folder) for folder in runs]
    counts = Counter(folder.path.resolve() for folder in folders)
    repeated = [path for path, count in counts.items() if count > 1]
    if repeated:
        raise InputError(f"compare: {brief_list(repeated)} is given twice; name each run once")
    out = Output(path, overwrite, runs, replaces=_is_comparison).check_file()
    tables = _outputs(files, path, overwrite, runs)
    with reading(brief_list(runs)):
        groups = group_runs(folders)
        values = compared(groups)
        page = document(TITLE, _head(groups), list(_parts(groups, values, minutes)))
    out.write_text(page)
    for option, output in tables.items():
        output.write_text(WRITERS[option](values))
    return values


def equal_time(runs: Sequence[RunFolder]) -> float | None:
    """Return the seconds of the shortest training, times :data:`SLACK`; None if one is unknown."""
    known = [seconds for seconds in map(training_seconds, runs) if seconds is not None]
    return SLACK * min(known) if len(known) == len(runs) else None


def training_seconds(run: RunFolder) -> float | None:
    """Return the seconds of training of the last validation that has them; None if none has."""
    times = [row.get("seconds") for row in run.rows("validation")]
    seconds = [time for time in times if time is not None]
    return max(seconds, default=None)


def _outputs(
    files: Mapping[str, Path], page: Path, overwrite: bool, runs: Sequence[Path]
) -> dict[str, Output]:
    """Return the checked outputs of the table; no two options may have one file."""
    outputs: dict[str, Output] = {}
    targets = {page.resolve(): "--out"}
    for option, path in files.items():
        output = output_file(path, overwrite, runs, f"--{option}")
        if output is None:
            continue
        if output.target in targets:
            raise InputError(
                f"--{option} {path}: it is the file of {targets[output.target]}; give another name"
            )
        targets[output.target] = f"--{option}"
        outputs[option] = output
    return outputs


def _is_comparison(path: Path) -> bool:
    """Return whether a file is a page that this command wrote."""
    with path.open("rb") as file:
        return f"<title>{TITLE}</title>".encode() in file.read(TITLE_BYTES)


def _head(groups: Groups) -> list[Block]:
    """Return the number of runs, their kinds and data, and warnings where these differ."""
    kinds = sorted({str(folder.kind) for folder in groups.runs if folder.kind})
    data = data_sets(groups.runs)
    spaces = feature_spaces(groups.runs)
    rows = [
        ("runs", len(groups.runs)),
        ("groups", len(groups.runs_of)),
        ("kind", ", ".join(kinds)),
        ("data", "\n".join(data)),
    ]
    blocks: list[Block] = [facts((label, value) for label, value in rows if value)]
    if len(data) > 1 or len(kinds) > 1:
        text = "The runs differ in their data or kind: no value is marked as the best."
        blocks.append(Note(text, is_warning=True))
    if len(spaces) > 1:
        text = (
            "Distances are of several feature spaces, and cannot be compared between them: "
            f"{', '.join(spaces)}. Train with --features FOLDER to share one."
        )
        blocks.append(Note(text, is_warning=True))
    return blocks


def _parts(groups: Groups, values: Sequence[Compared], minutes: float) -> Iterator[Part]:
    note = "Every run counts with its best validation; mean ± standard deviation over the runs of "
    note += "a group."
    if any(value.best for value in values):
        note += " The best mean of a metric is marked."
    yield Part("Metrics", [Note(note), *metrics_table(groups, values)])
    if groups.options:
        yield Part("Options that differ", list(options_table(groups)))
    yield from _at_equal_time(groups, minutes)
    charts = _charts(groups)
    if charts:
        yield Part("Curves", [Charts(charts)])
    pictures = list(_strips(groups))
    if pictures:
        yield Part("Images generated from the same latents", pictures)
    yield Part("Runs", [_runs_table(groups)])


def _at_equal_time(groups: Groups, minutes: float) -> Iterator[Part]:
    """Yield the part on validations within ``minutes``, or within equal time if that is 0.

    There is none for a single run; where the time of a run is unknown, a note names it.
    """
    if len(groups.runs) == 1:
        return
    title = "At equal time"
    shortest = equal_time(groups.runs)
    if shortest is None:
        untimed = [run.path for run in groups.runs if training_seconds(run) is None]
        note = (
            f"No time of training is on record for {brief_list(untimed)}, so nothing is compared."
        )
        yield Part(title, [Note(note)])
        return
    seconds = 60 * minutes or shortest
    blocks: list[Block] = [
        Note(f"The best validation in the first {duration_text(seconds)} {_clock(groups.runs)}.")
    ]
    shorter = [run.path for run in groups.runs if (equal_time([run]) or 0.0) < seconds]
    if shorter:
        note = f"Trained for less than these minutes: {brief_list(shorter)}."
        blocks.append(Note(note, is_warning=True))
    yield Part(title, [*blocks, *metrics_table(groups, compared(groups, seconds))])


def _charts(groups: Groups) -> list[Chart]:
    rows_of = {
        group: [folder.rows("validation") for folder in members]
        for group, members in groups.runs_of.items()
    }
    charts: list[Chart] = []
    for metric in COMPARED:
        charts += overlay(rows_of, metric)
    return charts


def _strips(groups: Groups) -> Iterator[Picture]:
    """Yield a row of images of each GAN's best checkpoint.

    GANs with latents of one width show the same latents.
    """
    for group, members in groups.runs_of.items():
        for folder in members:
            if not TrainedGan.opens(folder) or not (folder.path / "checkpoints/best").exists():
                continue
            images = strip(open_run(TrainedGan, folder.path, "cpu"))
            if images:
                title = f"{group}: {folder.path.name} (seed {folder.config.get('seed')})"
                yield Picture(images, f"Images generated by {title}", title)


def _runs_table(groups: Groups) -> Block:
    rows = []
    for group, members in groups.runs_of.items():
        for folder in members:
            rows.append((group, str(folder.path), brief(folder.config.get("seed"))))
    return text_table(["group", "run", "seed"], rows)


def _clock(runs: Sequence[RunFolder]) -> str:
    """Return the clocks of runs, in words."""
    clocks = {folder.config.get("clock", DEFAULT_CLOCK) for folder in runs}
    if len(clocks) > 1:
        return "some of elapsed time and some of processor time: these differ"
    return CLOCK_WORDS.get(clocks.pop(), "of elapsed time")


if __name__ == "__main__":
    run(Config, main)
