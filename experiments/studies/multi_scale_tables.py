"""The table and the figure of :mod:`experiments.studies.multi_scale`."""

from collections.abc import Iterator
from pathlib import Path

from experiments.studies.multi_scale_edits import SOURCES
from univae.checkpoint import JsonObject

__all__ = ["draw", "markdown"]

LEAST_EXACT = 0.6  # share of short texts that a model must reconstruct to test the claim
MARKERS = {"prior": "o", "texts": "s"}


def markdown(results: JsonObject) -> str:
    """Return edits, verdicts and attribute vectors of each corpus as tables in Markdown.

    Shares are in percent, with their standard deviations over seeds. A verdict stands by itself
    only where 60% of the texts of up to 12 words are reconstructed exactly.
    """
    lines: list[str] = []
    for corpus, arms in results["table"].items():
        for part in (_verdicts(arms), _edits(arms), _attributes(arms)):
            header, *rows = part
            if rows:
                head = [corpus, *header]
                lines += [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _verdicts(arms: JsonObject) -> Iterator[list[str]]:
    yield [
        "drawn from",
        "exact",
        "words kept",
        "content, low - top",
        "pattern, low - top",
        "both above chance",
        "claim",
    ]
    for arm, result in arms.items():
        reconstruction = result["reconstruction"]
        for source in SOURCES:
            contrast = result["contrast"][source]
            yield [
                arm,
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


def _edits(arms: JsonObject) -> Iterator[list[str]]:
    yield [
        "layers drawn anew",
        "KL, nats",
        "content",
        "pattern",
        "same pattern",
        "same length",
        "changed",
        "content, from texts",
        "pattern, from texts",
    ]
    for arm, result in arms.items():
        chance = result["chance"]
        yield [
            arm,
            "chance",
            "",
            *(_percent(chance[name]) for name in ("content", "pattern", "exact", "length")),
            "",
            _percent(chance["content"]),
            _percent(chance["pattern"]),
        ]
        for layers, kept in result["edits"]["prior"].items():
            from_texts = result["edits"]["texts"][layers]
            nats = sum(result["kl_nats"][int(layer)]["mean"] for layer in layers.split(","))
            names = ("content", "pattern", "exact", "length", "changed")
            yield [
                arm,
                layers,
                f"{nats:.1f}",
                *(_percent(kept[name]) for name in names),
                _percent(from_texts["content"]),
                _percent(from_texts["pattern"]),
            ]


def _attributes(arms: JsonObject) -> Iterator[list[str]]:
    yield ["attribute", "scale", "success", "random", "content kept", "random"]
    for arm, result in arms.items():
        for name, scales in result["attributes"].items():
            for scale, numbers in scales.items():
                if scale == "texts":
                    continue
                both = (numbers["vector"], numbers["random"])
                yield [
                    arm,
                    name,
                    scale,
                    *(_percent(direction["success"]) for direction in both),
                    *(_percent(direction["content"]) for direction in both),
                ]


def _percent(share: JsonObject) -> str:
    """Return a mean in percent, with the deviation over seeds if there is one.

    >>> _percent({"mean": 0.6331, "sd": 0.004}), _percent({"mean": -0.5, "sd": None})
    ('63.3 ± 0.4', '-50.0')
    """
    shown = f"{100 * share['mean']:.1f}"
    return shown if share["sd"] is None else f"{shown} ± {100 * share['sd']:.1f}"


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
        for axes, (arm, result) in zip(panels, arms.items(), strict=False):
            for source, marker in MARKERS.items():
                for layers, kept in result["edits"][source].items():
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
