"""The second table of the study of windows: fewer updates with micro-batches of a few texts.

An update for each micro-batch (``every``), an update for each with both decays slowed to
1 - (1 - beta) / k (``slower``), or an update for k of them (``window``).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.studies.harness import Job, Results, finished, spread
from experiments.studies.window_training import job
from univae.checkpoint import JsonObject

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

__all__ = ["ARMS", "draw", "jobs", "lines", "rows"]

WINDOW = 16
BETAS = {"beta1": 0.9, "beta2": 0.98}
ARMS = ("every", "slower", "window")


def jobs(
    out: Path, texts: int, seeds: Sequence[int], rates: Sequence[float], sizes: Sequence[int]
) -> list[Job]:
    """Return the runs of every seed, micro-batch, learning rate and arm.

    Args:
        out: the folder of the runs.
        texts: those of a run.
        seeds: of the runs.
        rates: learning rates.
        sizes: texts in a micro-batch.
    """
    slower_betas = {name: 1 - (1 - beta) / WINDOW for name, beta in BETAS.items()}
    runs = []
    for seed in seeds:
        for size in sizes:
            micro_steps = texts // size
            every: JsonObject = {"steps": micro_steps}
            slower: JsonObject = {"steps": micro_steps, **slower_betas}
            windowed: JsonObject = {
                "steps": micro_steps // WINDOW,
                "window": WINDOW,
                "second_moment": "summed",
            }
            for lr in rates:
                for arm, options in zip(ARMS, (every, slower, windowed), strict=True):
                    runs.append(job(out, _name(arm, size, lr), seed, texts=size, lr=lr, **options))
    return runs


def _name(arm: str, size: int, lr: float) -> str:
    return f"small-{arm}-{size}texts-lr{lr:g}"


def rows(
    results: Results, rates: Sequence[float], seeds: Sequence[int], sizes: Sequence[int]
) -> list[JsonObject]:
    """Return the NLL of every micro-batch, arm and rate.

    ``best`` marks the best rate of an arm and size, among those at which no seed failed.
    """
    table = []
    for size in sizes:
        for arm in ARMS:
            by_rate = [_row(results, arm, size, lr, seeds) for lr in rates]
            whole = [row for row in by_rate if not row["failed"]]
            if whole:
                min(whole, key=lambda row: row["nll_nats"]["mean"])["best"] = True
            table += by_rate
    return table


def _row(results: Results, arm: str, size: int, lr: float, seeds: Sequence[int]) -> JsonObject:
    runs = {}
    for seed in seeds:
        name = f"{_name(arm, size, lr)}-seed{seed}"
        runs[name] = results[name]
    done = finished(runs)
    failed = len(runs) - len(done)
    row: JsonObject = {"texts": size, "updates": arm, "lr": lr, "failed": failed, "best": False}
    if not failed:
        row["nll_nats"] = spread(result["nll_nats"] for result in done.values())
    return row


def lines(table: Sequence[JsonObject]) -> list[str]:
    """Return the table in Markdown: every arm at its best learning rate."""
    best = [row for row in table if row["best"]]
    sizes = _sizes(table)
    titles = [f"{size} {'text' if size == 1 else 'texts'}" for size in sizes]
    text = [f"| updates | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for arm in ARMS:
        cells = dict.fromkeys(sizes, "failed")
        for row in best:
            if row["updates"] == arm:
                nll_nats = row["nll_nats"]
                deviation = "" if nll_nats["sd"] is None else f" ± {nll_nats['sd']:.1f}"
                cells[row["texts"]] = f"{nll_nats['mean']:.1f}{deviation} (rate {row['lr']:g})"
        text.append(f"| {arm} | {' | '.join(cells.values())} |")
    return text


def draw(figure: "SubFigure", table: Sequence[JsonObject]) -> None:
    """Plot the NLL by learning rate, a panel for each micro-batch and a line for each arm."""
    sizes = _sizes(table)
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    for size, axes in zip(sizes, panels, strict=True):
        for arm in ARMS:
            of_arm = [row for row in table if row["updates"] == arm and row["texts"] == size]
            finished_rows = [row for row in of_arm if not row["failed"]]
            nll_nats = [row["nll_nats"]["mean"] for row in finished_rows]
            deviations = [row["nll_nats"]["sd"] or 0.0 for row in finished_rows]
            rates = [row["lr"] for row in finished_rows]
            axes.errorbar(rates, nll_nats, yerr=deviations, marker="o", capsize=3, label=arm)
        axes.set(
            xscale="log",
            xlabel="learning rate",
            ylabel="NLL, nats per text",
            title=f"micro-batches of {size}",
        )
    panels[-1].legend(frameon=False)


def _sizes(table: Sequence[JsonObject]) -> list[int]:
    return list(dict.fromkeys(row["texts"] for row in table))
