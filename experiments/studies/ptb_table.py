"""The results of the study of Penn Treebank: measures of a run, table, and figure."""

from collections.abc import Mapping
from pathlib import Path

from experiments.studies.courses import plot_courses
from experiments.studies.harness import spread
from univae.checkpoint import JsonObject
from univae.run_folder import RunFolder

__all__ = ["LABELS", "draw", "markdown", "run_result", "summary"]

LABELS = {
    "univae": "UniVAE, Gaussian latents",
    "vmf": "UniVAE, von Mises-Fisher latents",
    "lm": "language model of the same layers",
    "peer": "x-transformers GPTVAE, its loss",
    "peer_bound": "x-transformers GPTVAE, the bound",
}
# Minus the bound in nats a sentence, as published.
PUBLISHED = {"Transformer VAE, texar": 101.46, "LSTM VAE, texar": 102.06}
# Required of the arm ``univae``: at most the first, at least the others.
BARS = {"nll_nats": 103.0, "kl_sum_nats": 5.0, "mutual_information_nats": 3.0}
PAIRED = "above_language_model"  # difference of a run to the language model of its seed
MEASURES = (
    "nll_nats",
    "tokens_per_text",
    "perplexity_per_token",
    "minus_elbo_nats",
    "kl_sum_nats",
    "mutual_information_nats",
    "active_units",
    "khat_unreliable",
    "parameters",
    "steps",
    "processor_minutes",
)


def run_result(run: Path, trained: JsonObject, scores: JsonObject) -> JsonObject:
    """Return the measures of a run, and the course of its held-out NLL by processor minutes."""
    calibration = trained.get("calibration", {})
    seconds = trained["seconds"]
    folder = RunFolder.open(run)
    course = _course(folder, 0.0)
    if calibration:
        course += _course(folder.calibration, seconds)
    return {
        **scores,
        "steps": trained["steps"] + calibration.get("steps", 0),
        "processor_minutes": (seconds + calibration.get("seconds", 0.0)) / 60,
        "calibration": calibration or None,
        "course": course,
    }


def _course(folder: RunFolder, start: float) -> list[JsonObject]:
    """Return the validations of a training that began after ``start`` seconds."""
    return [
        {"minutes": (start + row["seconds"]) / 60, "nll_nats": row["nll_nats"]}
        for row in folder.rows("validation")
        if row.get("nll_nats") is not None
    ]


def summary(runs: Mapping[str, JsonObject]) -> JsonObject:
    """Return means and deviations over the seeds of every arm, and whether the bars are met."""
    table: JsonObject = {}
    for arm in LABELS:
        seeds = [run for name, run in runs.items() if name.rpartition("-")[0] == arm]
        row: JsonObject = {}
        for measure in MEASURES:
            values = [run[measure] for run in seeds if run.get(measure) is not None]
            if values:
                row[measure] = spread(values)
        if row:
            row["nll_standard_error"] = max(run["nll_standard_error"] for run in seeds)
            pairs = [run[PAIRED] for run in seeds if PAIRED in run]
            if pairs:
                row[PAIRED] = {
                    "nats": spread(pair["nats"] for pair in pairs),
                    "standard_error": max(pair["standard_error"] for pair in pairs),
                }
            table[arm] = row
    met: JsonObject = {}
    for measure, bar in BARS.items():
        mean = table.get("univae", {}).get(measure, {}).get("mean")
        if mean is not None:
            met[measure] = mean <= bar if measure == "nll_nats" else mean >= bar
    return {"table": table, "bars": BARS, "bars_met_by_univae": met, "published": PUBLISHED}


def markdown(results: JsonObject) -> str:
    """Return the table of the arms in Markdown, with the published bounds below."""
    lines = [
        "| | NLL, nats | above the language model | perplexity | minus bound | KL | information "
        "| active units | k-hat unreliable | parameters | steps | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, row in results["table"].items():
        nll = f"{_shown(row, 'nll_nats', '.2f')} ± {row['nll_standard_error']:.2f}"
        cells = [
            LABELS[arm],
            nll,
            _paired(row),
            _shown(row, "perplexity_per_token", ".1f"),
            _shown(row, "minus_elbo_nats", ".2f"),
            _shown(row, "kl_sum_nats", ".2f"),
            _shown(row, "mutual_information_nats", ".2f"),
            _shown(row, "active_units", ".0f"),
            _shown(row, "khat_unreliable", ".1%"),
            _shown(row, "parameters", ",.0f"),
            _shown(row, "steps", ",.0f"),
            _shown(row, "processor_minutes", ".1f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for name, bound in results["published"].items():
        lines.append(f"| {name}, published | | | | {bound:.2f} | | | | | | | |")
    return "\n".join(lines)


def _paired(row: JsonObject) -> str:
    """Return the paired difference to the language model; nothing where there is none."""
    if PAIRED not in row:
        return ""
    pair = row[PAIRED]
    return f"{pair['nats']['mean']:+.2f} ± {pair['standard_error']:.2f}"


def _shown(row: JsonObject, measure: str, form: str) -> str:
    """Return the mean of a measure over seeds; nothing where the arm has none."""
    return format(row[measure]["mean"], form) if measure in row else ""


def draw(runs: Mapping[str, JsonObject], path: Path) -> None:
    """Draw held-out NLL against processor minutes, a line for each run, a colour for each arm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    lowest = min(point["nll_nats"] for run in runs.values() for point in run["course"])
    plot_courses(axes, runs, "nll_nats", LABELS)
    axes.set(
        xlabel="processor minutes",
        ylabel="held-out NLL, nats a sentence",
        ylim=(lowest - 2, lowest + 30),
    )
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
