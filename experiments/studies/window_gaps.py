"""The first table of the study of windows: how far folded micro-batches are from summed ones.

An update of k micro-batches is AdamW on their summed gradient (``buffered``), or their fold into
the moments with one of the second moments. A gap is the value of an arm minus that of the buffered
arm with the same seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from experiments.studies.harness import Job, Results, paired, spread
from experiments.studies.window_training import BATCH, job
from univae.checkpoint import JsonObject
from univae.optim.second_moments import SECOND_MOMENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SETTINGS", "Setting", "arms_of", "draw", "jobs", "lines", "rows", "setting"]

Setting: TypeAlias = tuple[int, float]  # window and learning rate
SETTINGS: list[Setting] = [(4, 5e-4), (4, 1e-3), (16, 5e-4), (16, 1e-3)]
REFERENCE = "buffered"  # the arm whose values are subtracted in gaps


@dataclass(frozen=True)
class Measure:
    """A metric, and its name and sign in the table, where smaller is better."""

    name: str
    label: str
    sign: int


MEASURES = (
    Measure("nll_nats", "nll_nats", 1),
    Measure("elbo_nats", "minus_elbo_nats", -1),
)


def setting(text: str) -> Setting:
    """Return the window and learning rate of ``k:lr``."""
    window, lr = text.split(":")
    return int(window), float(lr)


def arms_of(window: int) -> Mapping[str, JsonObject]:
    """Return the options of every arm with a window."""
    arms: dict[str, JsonObject] = {REFERENCE: {"accumulate": window}}
    for name in SECOND_MOMENTS:
        arms[name] = {"window": window, "second_moment": name}
    return arms


def jobs(out: Path, updates: int, seeds: Sequence[int], settings: Sequence[Setting]) -> list[Job]:
    """Return the runs of every setting, seed and arm."""
    runs = []
    for seed in seeds:
        for window, lr in settings:
            common = {"batch_tokens": BATCH // window, "steps": updates, "lr": lr}
            for arm, options in arms_of(window).items():
                runs.append(job(out, _name(arm, window, lr), seed, **common, **options))
    return runs


def _name(arm: str, window: int, lr: float) -> str:
    return f"{arm}-k{window}-lr{lr:g}"


def rows(results: Results, settings: Sequence[Setting], seeds: Sequence[int]) -> list[JsonObject]:
    """Return the values and gaps of every setting and arm, over the seeds that did not fail."""
    table = []
    for window, lr in settings:
        for arm in arms_of(window):
            row: JsonObject = {"window": window, "lr": lr, "second_moment": arm}
            for measure in MEASURES:
                values = []
                differences = []
                for seed in seeds:
                    names = [f"{_name(each, window, lr)}-seed{seed}" for each in (arm, REFERENCE)]
                    if not all(measure.name in results[name] for name in names):
                        row["failed"] = row.get("failed", 0) + 1
                        continue
                    value, reference = (
                        measure.sign * results[name][measure.name] for name in names
                    )
                    values.append(value)
                    differences.append(value - reference)
                if values:
                    row[measure.label] = spread(values)
                    row[f"{measure.label}_gap"] = paired(differences)
            if MEASURES[0].label in row:
                table.append(row)
    return table


def lines(table: Sequence[JsonObject]) -> list[str]:
    """Return the table in Markdown: a line for each arm; nothing for gaps without intervals."""
    table = [row for row in table if "interval" in row["nll_nats_gap"]]
    if not table:
        return []
    settings = list(dict.fromkeys((row["window"], row["lr"]) for row in table))
    arms = list(dict.fromkeys(row["second_moment"] for row in table))
    cells = {(row["second_moment"], row["window"], row["lr"]): _cell(row) for row in table}
    titles = [f"k = {window}, rate {lr:g}" for window, lr in settings]
    text = [f"| second moment | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for arm in arms:
        cells_of_arm = [cells[arm, window, lr] for window, lr in settings]
        text.append(f"| {arm} | {' | '.join(cells_of_arm)} |")
    return text


def _cell(row: JsonObject) -> str:
    """Return a gap with its interval; of the buffered arm the NLL."""
    if row["second_moment"] == REFERENCE:
        return f"{row['nll_nats']['mean']:.2f}"
    gap = row["nll_nats_gap"]
    if gap["interval"] is None:
        return f"{gap['mean']:+.2f}"
    low, high = gap["interval"]
    return f"{gap['mean']:+.2f} ({low:+.2f} to {high:+.2f})"


def draw(axes: "Axes", table: Sequence[JsonObject]) -> None:
    """Plot the gaps of every seed, and their intervals, by second moment and setting."""
    table = [row for row in table if row["second_moment"] != REFERENCE]
    labels = []
    for position, row in enumerate(table):
        gap = row["nll_nats_gap"]
        axes.plot([position] * len(gap["each"]), gap["each"], "o", color="C0", alpha=0.5)
        if gap["interval"] is not None:
            axes.plot([position, position], gap["interval"], color="black")
        labels.append(f"{row['second_moment']}\nk={row['window']}\n{row['lr']:g}")
    axes.set_xticks(range(len(table)), labels, fontsize=8)
    axes.axhline(0, color="grey")
    axes.set_ylabel("NLL minus buffered AdamW's, nats per text")
