"""The course of a measure over the processor time of runs, as lines of a figure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from univae.checkpoint import JsonObject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_courses"]


def plot_courses(
    axes: "Axes", runs: Mapping[str, JsonObject], measure: str, labels: Mapping[str, str]
) -> None:
    """Plot a measure of validations by minutes: a line for each run, a colour for each arm.

    Args:
        axes: where to plot.
        runs: results by ``ARM-SEED``, whose ``course`` has ``minutes`` and the measure.
        measure: the key of the measure.
        labels: the names of all arms, in the order of their colours.
    """
    named: set[str] = set()
    for name, run in runs.items():
        arm = name.rpartition("-")[0]
        minutes = [point["minutes"] for point in run["course"]]
        values = [point[measure] for point in run["course"]]
        color = f"C{list(labels).index(arm)}"
        label = None if arm in named else labels[arm]
        named.add(arm)
        axes.plot(minutes, values, marker=".", color=color, label=label)
