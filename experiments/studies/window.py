"""The cost of gradient accumulation in the momentum, and of fewer updates with small batches.

A small UniVAE on ``python-docs``, with equal numbers of updates or texts, and several seeds. Two
tables of held-out nats per text:

``accumulation``  the same micro-batches, k to an update: AdamW on their summed gradient
                  (``buffered``), and folded into the moments with each of the second moments; gaps
                  are paired by seed, with 95% intervals.
``small_batch``   micro-batches of 1, 2 and 4 texts: an update for each (``every``), an update for
                  each with both decays slowed to 1 - (1 - beta) / k (``slower``), or an update for
                  k of them (``window``); by learning rate, and at the best one of each.

Runs are short and follow each other in one process of one thread. ``python -m
experiments.studies.window --out runs/window --results experiments/results/window.json --figure
docs/figures/window.png``
"""

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from experiments.benchmarks.harness import report
from experiments.studies.harness import Job, Results, finished, paired, run_here, spread
from experiments.studies.reuse import bad_input_ends
from experiments.studies.small_texts import prepare_corpus, small_text_task
from experiments.text.task import TextTask
from experiments.training.loop import fit_task
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, write_json
from univae.optim.second_moments import SECOND_MOMENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BATCH = 1024  # padded tokens in an update of the first table
WINDOW = 16  # of the second table
BETAS = {"beta1": 0.9, "beta2": 0.98}

Setting: TypeAlias = tuple[int, float]  # window and learning rate
SETTINGS: list[Setting] = [(4, 5e-4), (4, 1e-3), (16, 5e-4), (16, 1e-3)]


@dataclass(frozen=True)
class Measure:
    """A metric, and its name and sign in the first table, where smaller is better."""

    name: str
    label: str
    sign: int


MEASURES = (
    Measure("nll_nats", "nll_nats", 1),
    Measure("elbo_nats", "minus_elbo_nats", -1),
)
REFERENCE = "buffered"  # the arm whose values are subtracted in gaps
SMALL_ARMS = ("every", "slower", "window")


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A run of the study."""

    out: Path
    shared: Path  # the tokenised corpus
    batch_tokens: int = BATCH  # padded tokens in a micro-batch
    texts: int = 0  # texts in a micro-batch, instead of --batch-tokens; 0: by tokens


class FixedSizeTask(TextTask):
    """The training of a text VAE on micro-batches of a number of texts.

    Args:
        task: gives model, objective and texts.
        texts: the number of texts of a micro-batch.
    """

    def __init__(self, task: TextTask, texts: int) -> None:
        training_set = (task.corpus, task.train)
        super().__init__(task.module, task.objective, task.seed, training_set, task.held_out)
        self.texts = texts

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the indices of the texts of every batch, in an order drawn for the epoch."""
        return fixed_batches(self.train, self.texts, self.seed, epoch)


def fixed_batches(indices: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the indices in batches of ``size``, in an order drawn for the epoch.

    Those left over, fewer than ``size``, are in no batch.
    """
    order = np.random.default_rng((seed, epoch)).permutation(indices)
    count = len(order) // size
    return list(order[: count * size].reshape(count, size))


def train(config: Config) -> JsonObject:
    """Train a configuration; return the result, with the processor time."""
    start = time.process_time()
    folder = Run.create(config.out, dataclasses.asdict(config))
    reseed(config.seed, "weights")
    task = small_text_task(config.shared, config.batch_tokens, config.seed)
    if config.texts:
        task = FixedSizeTask(task, config.texts)
    result = fit_task(task, config, folder)
    result["processor_seconds"] = time.process_time() - start
    write_json(config.out / "DONE", result)
    return result


def accumulation_arms(window: int) -> Mapping[str, JsonObject]:
    """Return the options of every arm of the first table."""
    arms: dict[str, JsonObject] = {REFERENCE: {"accumulate": window}}
    for name in SECOND_MOMENTS:
        arms[name] = {"window": window, "second_moment": name}
    return arms


def setting(text: str) -> Setting:
    """Return the window and learning rate of ``k:lr``."""
    window, lr = text.split(":")
    return int(window), float(lr)


def job(out: Path, name: str, seed: int, **options: object) -> Job:
    """Return a run of one thread, with a single validation.

    Gradients are not clipped, because clipping would differ between the arms.
    """
    settings: JsonObject = {
        "clip": 0.0,
        "threads": 1,
        "device": "cpu",
        "validate_every": 0,
        "checkpoint_every": 0,
        **options,
    }
    folder = out / f"{name}-seed{seed}"
    config = Config(out=folder, shared=out / "corpus", seed=seed, **settings)
    return Job(config.out.name, train, config)


def accumulation(
    out: Path, updates: int, seeds: Sequence[int], settings: Sequence[Setting]
) -> list[Job]:
    """Return the runs of the first table: every setting, seed and arm."""
    jobs = []
    for seed in seeds:
        for window, lr in settings:
            common = {"batch_tokens": BATCH // window, "steps": updates, "lr": lr}
            for arm, options in accumulation_arms(window).items():
                jobs.append(job(out, f"{arm}-k{window}-lr{lr:g}", seed, **common, **options))
    return jobs


def small_batch(
    out: Path, texts: int, seeds: Sequence[int], rates: Sequence[float], sizes: Sequence[int]
) -> list[Job]:
    """Return the runs of the second table: every seed, micro-batch, learning rate and arm.

    Args:
        out: the folder of the runs.
        texts: those of a run.
        seeds: of the runs.
        rates: learning rates.
        sizes: texts in a micro-batch.
    """
    slower_betas = {name: 1 - (1 - beta) / WINDOW for name, beta in BETAS.items()}
    jobs = []
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
                for arm, options in zip(SMALL_ARMS, (every, slower, windowed), strict=True):
                    name = _small_name(arm, size, lr)
                    jobs.append(job(out, name, seed, texts=size, lr=lr, **options))
    return jobs


def _small_name(arm: str, size: int, lr: float) -> str:
    return f"small-{arm}-{size}texts-lr{lr:g}"


def gaps(results: Results, settings: Sequence[Setting], seeds: Sequence[int]) -> list[JsonObject]:
    """Return the rows of the first table.

    A gap is the value of an arm minus that of the buffered arm with the same seed.
    """
    rows = []
    for window, lr in settings:
        for arm in accumulation_arms(window):
            row: JsonObject = {"window": window, "lr": lr, "second_moment": arm}
            for measure in MEASURES:
                values = []
                differences = []
                for seed in seeds:
                    suffix = f"k{window}-lr{lr:g}-seed{seed}"
                    names = [f"{arm}-{suffix}", f"{REFERENCE}-{suffix}"]
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
                rows.append(row)
    return rows


def means(
    results: Results, rates: Sequence[float], seeds: Sequence[int], sizes: Sequence[int]
) -> list[JsonObject]:
    """Return the rows of the second table; ``best`` marks the best rate of an arm and size."""
    rows = []
    for size in sizes:
        for arm in SMALL_ARMS:
            by_rate = [_small_row(results, arm, size, lr, seeds) for lr in rates]
            whole = [row for row in by_rate if not row["failed"]]
            if whole:
                min(whole, key=lambda row: row["nll_nats"]["mean"])["best"] = True
            rows += by_rate
    return rows


def _small_row(
    results: Results, arm: str, size: int, lr: float, seeds: Sequence[int]
) -> JsonObject:
    runs = {}
    for seed in seeds:
        name = f"{_small_name(arm, size, lr)}-seed{seed}"
        runs[name] = results[name]
    done = finished(runs)
    failed = len(runs) - len(done)
    row: JsonObject = {"texts": size, "updates": arm, "lr": lr, "failed": failed, "best": False}
    if not failed:
        row["nll_nats"] = spread(result["nll_nats"] for result in done.values())
    return row


def markdown(tables: JsonObject) -> str:
    """Return both tables in Markdown; nothing for results without intervals."""
    accumulation_rows = [row for row in tables["accumulation"] if "interval" in row["nll_nats_gap"]]
    if not accumulation_rows:
        return ""
    settings = list(dict.fromkeys((row["window"], row["lr"]) for row in accumulation_rows))
    arms = list(dict.fromkeys(row["second_moment"] for row in accumulation_rows))
    cells = {}
    for row in accumulation_rows:
        cells[row["second_moment"], row["window"], row["lr"]] = _gap(row)
    titles = [f"k = {window}, rate {lr:g}" for window, lr in settings]
    lines = [f"| second moment | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for arm in arms:
        shown = [cells[arm, window, lr] for window, lr in settings]
        lines.append(f"| {arm} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", *_small_lines(tables["small_batch"])])


def _gap(row: JsonObject) -> str:
    """Return a gap with its interval; of the buffered arm the NLL."""
    if row["second_moment"] == REFERENCE:
        return f"{row['nll_nats']['mean']:.2f}"
    gap = row["nll_nats_gap"]
    if gap["interval"] is None:
        return f"{gap['mean']:+.2f}"
    low, high = gap["interval"]
    return f"{gap['mean']:+.2f} ({low:+.2f} to {high:+.2f})"


def _small_lines(rows: Sequence[JsonObject]) -> list[str]:
    """Return the lines of the second table: every arm at its best learning rate."""
    best = [row for row in rows if row["best"]]
    sizes = list(dict.fromkeys(row["texts"] for row in rows))
    titles = [f"{size} {'text' if size == 1 else 'texts'}" for size in sizes]
    lines = [f"| updates | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for arm in SMALL_ARMS:
        shown = dict.fromkeys(sizes, "failed")
        for row in best:
            if row["updates"] == arm:
                nll_nats = row["nll_nats"]
                deviation = "" if nll_nats["sd"] is None else f" ± {nll_nats['sd']:.1f}"
                shown[row["texts"]] = f"{nll_nats['mean']:.1f}{deviation} (rate {row['lr']:g})"
        lines.append(f"| {arm} | {' | '.join(shown.values())} |")
    return lines


def draw(tables: JsonObject, path: Path) -> None:
    """Plot the gaps of every seed by window and rule, and small batches by learning rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    gap_rows = [row for row in tables["accumulation"] if row["second_moment"] != REFERENCE]
    _draw_gaps(top.subplots(), gap_rows)

    sizes = list(dict.fromkeys(row["texts"] for row in tables["small_batch"]))
    panels = bottom.subplots(1, len(sizes), squeeze=False)[0]
    for size, axes in zip(sizes, panels, strict=True):
        for arm in SMALL_ARMS:
            rows = [row for row in tables["small_batch"] if row["updates"] == arm]
            rows = [row for row in rows if row["texts"] == size and not row["failed"]]
            nll_nats = [row["nll_nats"]["mean"] for row in rows]
            deviations = [row["nll_nats"]["sd"] or 0.0 for row in rows]
            rates = [row["lr"] for row in rows]
            axes.errorbar(rates, nll_nats, yerr=deviations, marker="o", capsize=3, label=arm)
        axes.set(
            xscale="log",
            xlabel="learning rate",
            ylabel="NLL, nats per text",
            title=f"micro-batches of {size}",
        )
    panels[-1].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_gaps(axes: "Axes", rows: Sequence[JsonObject]) -> None:
    labels = []
    for position, row in enumerate(rows):
        gap = row["nll_nats_gap"]
        axes.plot([position] * len(gap["each"]), gap["each"], "o", color="C0", alpha=0.5)
        if gap["interval"] is not None:
            axes.plot([position, position], gap["interval"], color="black")
        labels.append(f"{row['second_moment']}\nk={row['window']}\n{row['lr']:g}")
    axes.set_xticks(range(len(rows)), labels, fontsize=8)
    axes.axhline(0, color="grey")
    axes.set_ylabel("NLL minus buffered AdamW's, nats per text")


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
        type=setting,
        nargs="+",
        default=SETTINGS,
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
    jobs = accumulation(options.out, options.updates, seeds, options.settings)
    jobs += small_batch(options.out, options.texts, small_seeds, options.rates, options.micro_texts)
    results = run_here(jobs)
    return {
        "processor_minutes": sum(run["processor_seconds"] for run in finished(results).values())
        / 60,
        "updates": options.updates,
        "texts": options.texts,
        "accumulation": gaps(results, options.settings, seeds),
        "small_batch": means(results, options.rates, small_seeds, options.micro_texts),
    }


if __name__ == "__main__":
    arguments = parse()
    with bad_input_ends("window"):
        tables = main(arguments)
    report("window", tables, arguments.results, kind="study")
    if arguments.figure is not None:
        draw(tables, arguments.figure)
