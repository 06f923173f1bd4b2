"""The results of the study of English sentences: means over seeds, table and figure."""

from collections.abc import Mapping
from pathlib import Path

from experiments.studies.courses import plot_courses
from experiments.studies.harness import spread
from univae.checkpoint import JsonObject

__all__ = ["BARS", "LABELS", "draw", "markdown", "summary"]

LABELS = {
    "plain": "cosines, random start",
    "tokens": "and tokens of the teacher",
    "vectors": "and the teacher's vectors",
    "full": "and negations kept apart",
    "teacher": "the teacher, MiniLM (6 layers of 384)",
    "word average": "averages of the teacher's word vectors",
}
MEASURES = (
    "stsb_dev_spearman",
    "stsb_test_spearman",
    "recall_at_1",
    "recall_at_10",
    "qqp_test_auroc",
    "negation_flips",
    "distinct_2",
    "teacher_cosine",
    "parameters",
    "steps",
    "processor_minutes",
)
# Required of the arm ``full``: at least the first, at most the others.
BARS = {
    "stsb_test_spearman": 0.78,
    "negation_flips": 0.2,
    "parameters": 6_000_000,
    "processor_minutes": 120,  # an hour of two cores
}
AT_LEAST = ("stsb_test_spearman",)


def summary(runs: Mapping[str, JsonObject], baselines: Mapping[str, JsonObject]) -> JsonObject:
    """Return means and deviations over the seeds of every arm, and whether the bars are met.

    Runs are named by their arm and seed. Of several distributions of tokens the one with the most
    dropped or added negations counts.
    """
    table: JsonObject = {}
    for arm in LABELS:
        seeds = [_row(run) for name, run in runs.items() if name.rpartition("-")[0] == arm]
        row = {}
        for measure in MEASURES:
            values = [seed[measure] for seed in seeds if measure in seed]
            if values:
                row[measure] = spread(values)
        if row:
            table[arm] = row
    met: JsonObject = {}
    for measure, bar in BARS.items():
        mean = table.get("full", {}).get(measure, {}).get("mean")
        if mean is not None:
            met[measure] = mean >= bar if measure in AT_LEAST else mean <= bar
    return {"table": table, "baselines": dict(baselines), "bars": BARS, "bars_met_by_full": met}


def _row(run: JsonObject) -> JsonObject:
    """Return the measures of a run that a row of the table has."""
    texts = max(
        run["generation"].values(), key=lambda texts: texts["negation_flips_negated_questions"]
    )
    return {
        **run["vectors"],
        "negation_flips": texts["negation_flips_negated_questions"],
        "distinct_2": texts["distinct_2"],
        "teacher_cosine": texts["teacher_cosine_top_5"],
        "parameters": run["parameters"],
        "steps": run["steps"],
        "processor_minutes": run["processor_minutes"],
    }


def markdown(results: JsonObject) -> str:
    """Return the table of arms, and of the teacher, in Markdown."""
    lines = [
        "| vectors | STS-B dev | STS-B test, Spearman | captions of one picture, recall at 1 / 10 "
        "| Quora test, AUROC | negations dropped | distinct-2 | parameters | steps | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = {**results["table"], **results["baselines"]}
    for name, row in rows.items():
        cells = [
            LABELS[name],
            _shown(row, "stsb_dev_spearman", ".3f"),
            _shown(row, "stsb_test_spearman", ".3f"),
            f"{_shown(row, 'recall_at_1', '.3f')} / {_shown(row, 'recall_at_10', '.3f')}",
            _shown(row, "qqp_test_auroc", ".3f"),
            _shown(row, "negation_flips", ".1%"),
            _shown(row, "distinct_2", ".2f"),
            _shown(row, "parameters", ",.0f"),
            _shown(row, "steps", ",.0f"),
            _shown(row, "processor_minutes", ".1f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(row: JsonObject, measure: str, form: str) -> str:
    """Return a measure, or its mean and deviation over seeds; nothing where the row has none."""
    value = row.get(measure)
    if value is None:
        return ""
    if not isinstance(value, dict):
        return format(value, form)
    if not value["sd"]:
        return format(value["mean"], form)
    return f"{value['mean']:{form}} ± {value['sd']:{form}}"


def draw(runs: Mapping[str, JsonObject], path: Path) -> None:
    """Draw the correlation of validations against processor minutes, a line for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    plot_courses(axes, runs, "spearman", LABELS)
    axes.set(xlabel="processor minutes", ylabel="STS-B dev, Spearman")
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
