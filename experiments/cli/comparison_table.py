"""The metrics of a GAN beside those of real data and of known faults, as an aligned table."""

from collections.abc import Mapping

from experiments.training.metric_names import number_text
from univae.checkpoint import JsonObject

__all__ = ["COLUMNS", "comparison_table"]

MODEL = "this model"
RAW = "its raw weights"

# Metric -> the head of its column.
COLUMNS: Mapping[str, str] = {
    "frechet_distance": "Fréchet",
    "kernel_distance": "kernel",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "classes_found": "classes",
}


def comparison_table(result: JsonObject) -> str:
    """Return a table with a row for the model and each rung of the ``ladder`` of a result.

    It is empty where the result has no ladder.
    """
    ladder = result.get("ladder")
    if not isinstance(ladder, Mapping):
        return ""
    rows = {MODEL: result, RAW: result.get("raw"), **ladder}
    measured = {name: row for name, row in rows.items() if isinstance(row, Mapping)}
    columns = {
        key: head
        for key, head in COLUMNS.items()
        if any(_cell(row, key) for row in measured.values())
    }
    width = max(map(len, measured))
    head = "  ".join([" " * width, *columns.values()])
    lines = [f"  {head}"]
    for name, row in measured.items():
        cells = [f"{_cell(row, key):>{len(text)}}" for key, text in columns.items()]
        lines.append("  " + "  ".join([f"{name:<{width}}", *cells]))
    return "\n".join(lines)


def _cell(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return number_text(value)
