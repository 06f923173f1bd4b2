"""The table and the figure of :mod:`experiments.studies.multi_scale`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from experiments.studies.multi_scale_edits import SOURCES
from univae.checkpoint import JsonObject

__all__ = ["draw", "markdown"]

LEAST_EXACT = 0.6  # share of short texts that a model must reconstruct to test the claim
KEPT = ("content", "pattern", "exact", "length")
KEPT_FROM_TEXTS = ("content", "pattern")
MARKERS = {"prior": "o", "texts": "s"}

# Yields the cells of rows, from the measurements of an arm.
RowsOf: TypeAlias = Callable[[JsonObject], Iterator[list[str]]]


def markdown(results: JsonObject) -> str:
    """Return edits, verdicts and attribute vectors of each corpus as tables in Markdown.

    Shares are in percent, with their standard deviations over seeds. A verdict stands by itself
    only where 60% of the texts of up to 12 words are reconstructed exactly.
    """
    lines: list[str] = []
    for corpus, arms in results["table"].items():
        for columns, rows_of in TABLES:
            lines += _table(corpus, arms, columns, rows_of)
    return "\n".join(lines)


def _table(corpus: str, arms: JsonObject, columns: Sequence[str], rows_of: RowsOf) -> list[str]:
    """Return the lines of a table, with the rows of every arm; none if no arm has a row."""
    rows = []
    for arm, measurements in arms.items():
        for cells in rows_of(measurements):
            rows.append(_line([arm, *cells]))
    if not rows:
        return []
    return [_line([corpus, *columns]), _line(["---"] * (1 + len(columns))), *rows, ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _verdicts(measurements: JsonObject) -> Iterator[list[str]]:
    reconstruction = measurements["reconstruction"]
    for source in SOURCES:
        contrast = measurements["contrast"][source]
        yield [
            source,
            _percent(reconstruction["exact_short"]),
            _percent(reconstruction["words_kept"]),
            _percent(contrast["content"]),
            _percent(contrast["pattern"]),
            _percent(contrast["content_minus_pattern"]),
            _claim(contrast["verdict"], reconstruction),
        ]


def _claim(verdict: str, reconstruction: JsonObject) -> str:
    """Return the verdict, in brackets where the models reconstruct too few texts for one."""
    if reconstruction["exact_short"]["mean"] >= LEAST_EXACT:
        return verdict
    return f"not tested ({verdict})"


def _edits(measurements: JsonObject) -> Iterator[list[str]]:
    chance = measurements["chance"]
    yield ["chance", "", *_kept(chance), "", *_kept(chance, KEPT_FROM_TEXTS)]
    for layers, kept in measurements["edits"]["prior"].items():
        from_texts = measurements["edits"]["texts"][layers]
        nats = sum(measurements["kl_nats"][int(layer)]["mean"] for layer in layers.split(","))
        changed = _percent(kept["changed"])
        yield [layers, f"{nats:.1f}", *_kept(kept), changed, *_kept(from_texts, KEPT_FROM_TEXTS)]


def _kept(shares: JsonObject, names: Sequence[str] = KEPT) -> list[str]:
    return [_percent(shares[name]) for name in names]


def _attributes(measurements: JsonObject) -> Iterator[list[str]]:
    for name, scales in measurements["attributes"].items():
        for scale, directions in scales.items():
            if scale == "texts":
                continue
            both = (directions["vector"], directions["random"])
            yield [
                name,
                scale,
                *(_percent(direction["success"]) for direction in both),
                *(_percent(direction["content"]) for direction in both),
            ]


# Columns behind the one of arms, and the function that yields the rows of an arm.
TABLES: Sequence[tuple[Sequence[str], RowsOf]] = (
    (
        (
            "drawn from",
            "exact",
            "words kept",
            "content, low - top",
            "pattern, low - top",
            "both above chance",
            "claim",
        ),
        _verdicts,
    ),
    (
        (
            "layers drawn anew",
            "KL, nats",
            "content",
            "pattern",
            "same pattern",
            "same length",
            "changed",
            "content, from texts",
            "pattern, from texts",
        ),
        _edits,
    ),
    (
        ("attribute", "scale", "success", "random", "content kept", "random"),
        _attributes,
    ),
)


def _percent(share: JsonObject) -> str:
    """Return a mean in percent, with the deviation over seeds if there is one.

    >>> _percent({"mean": 0.6331, "sd": 0.004}), _percent({"mean": -0.5, "sd": None})
    ('63.3 ± 0.4', '-50.0')
    """
    mean = f"{100 * share['mean']:.1f}"
    return mean if share["sd"] is None else f"{mean} ± {100 * share['sd']:.1f}"


def draw(table: JsonObject, path: Path) -> None:
    """Draw the pattern kept against the content kept above chance, a panel for each arm.

    Numbers beside points are the layers drawn anew; a row of panels is a corpus.
    """
    from matplotlib.figure import Figure

    columns = max(map(len, table.values()))
    figure = Figure(figsize=(3.4 * columns, 3.4 * len(table)), layout="constrained")
    grid = figure.subplots(len(table), columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat:
        axes.axline((0, 0), slope=1, color="0.8", zorder=0)
    for panels, (corpus, arms) in zip(grid, table.items(), strict=True):
        for axes, (arm, measurements) in zip(panels, arms.items(), strict=False):
            for source, marker in MARKERS.items():
                for layers, kept in measurements["edits"][source].items():
                    x = kept["content_above_chance"]
                    y = kept["pattern_above_chance"]
                    color = "C0" if "," not in layers else "0.6"
                    filled = color if source == "prior" else "none"
                    axes.errorbar(
                        x["mean"],
                        y["mean"],
                        xerr=x["sd"],
                        yerr=y["sd"],
                        marker=marker,
                        color=color,
                        markerfacecolor=filled,
                    )
                    axes.annotate(layers, (x["mean"], y["mean"]), fontsize=7)
            axes.set_title(f"{corpus}, latents: {arm}", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("content kept")
    for axes in grid[:, 0]:
        axes.set_ylabel("pattern kept")
    figure.savefig(path, dpi=110)
