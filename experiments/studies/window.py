"""The cost of gradient accumulation in the momentum, and of fewer updates with small batches.

A small UniVAE on ``python-docs``, with equal numbers of updates or texts, and several seeds. Two
tables of held-out nats per text:

``accumulation``  the same micro-batches, k to an update: AdamW on their summed gradient
                  (``buffered``), and folded into the moments with each of the second moments; gaps
                  are paired by seed, with 95% intervals (:mod:`experiments.studies.window_gaps`).
``small_batch``   micro-batches of 1, 2 and 4 texts: an update for each (``every``), an update for
                  each with both decays slowed to 1 - (1 - beta) / k (``slower``), or an update for
                  k of them (``window``); by learning rate, and at the best one of each
                  (:mod:`experiments.studies.window_updates`).

Runs are short and follow each other in one process of one thread. ``python -m
experiments.studies.window --out runs/window --results experiments/results/window.json --figure
docs/figures/window.png``
"""

import argparse
from pathlib import Path

from experiments.benchmarks.harness import report
from experiments.studies import window_gaps, window_updates
from experiments.studies.harness import finished, run_here
from experiments.studies.reuse import bad_input_ends
from experiments.studies.small_texts import prepare_corpus
from univae.checkpoint import JsonObject


def markdown(tables: JsonObject) -> str:
    """Return both tables in Markdown; nothing for results without intervals."""
    gap_lines = window_gaps.lines(tables["accumulation"])
    if not gap_lines:
        return ""
    return "\n".join([*gap_lines, "", *window_updates.lines(tables["small_batch"])])


def draw(tables: JsonObject, path: Path) -> None:
    """Plot the gaps of every seed by window and rule, and small batches by learning rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    window_gaps.draw(top.subplots(), tables["accumulation"])
    window_updates.draw(bottom, tables["small_batch"])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; finished runs are reused"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the tables")
    parser.add_argument("--figure", type=Path, help="a PNG file for the figure")
    parser.add_argument("--updates", type=int, default=80, help="of a run, first table")
    parser.add_argument("--texts", type=int, default=2048, help="of a run, second table")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each arm, first table")
    parser.add_argument("--small-seeds", type=int, default=3, help="the same, second table")
    parser.add_argument(
        "--settings",
        type=window_gaps.setting,
        nargs="+",
        default=window_gaps.SETTINGS,
        help="window:learning rate of the first table, for example 4:1e-3",
    )
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[3e-4, 1e-3], help="learning rates, second table"
    )
    parser.add_argument(
        "--micro-texts", type=int, nargs="+", default=[1, 2, 4], help="texts in a micro-batch"
    )
    return parser.parse_args()


def main(options: argparse.Namespace) -> JsonObject:
    """Train every run that is not finished; return both tables."""
    options.out.mkdir(parents=True, exist_ok=True)
    prepare_corpus(options.out / "corpus")
    seeds = range(options.seeds)
    small_seeds = range(options.small_seeds)
    sizes = options.micro_texts
    jobs = window_gaps.jobs(options.out, options.updates, seeds, options.settings)
    jobs += window_updates.jobs(options.out, options.texts, small_seeds, options.rates, sizes)
    results = run_here(jobs)
    seconds = [run["processor_seconds"] for run in finished(results).values()]
    return {
        "processor_minutes": sum(seconds) / 60,
        "updates": options.updates,
        "texts": options.texts,
        "accumulation": window_gaps.rows(results, options.settings, seeds),
        "small_batch": window_updates.rows(results, options.rates, small_seeds, sizes),
    }


if __name__ == "__main__":
    arguments = parse()
    with bad_input_ends("window"):
        tables = main(arguments)
    report("window", tables, arguments.results, kind="study")
    if arguments.figure is not None:
        draw(tables, arguments.figure)
