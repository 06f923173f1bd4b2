"""Baselines beside the held-out NLL of a table: fitted after training, in result and report."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from density.tables.baselines import BASELINES, baseline_nll
from density.tables.columns import Columns
from experiments.images.training_data import TrainingData
from experiments.training.distributed import World
from experiments.training.step import Steps
from univae.checkpoint import JsonObject, read_json, write_json
from univae.run_folder import RunFolder

__all__ = ["baseline_rows", "baseline_text", "with_baselines", "write_baselines"]

Phase = Callable[[Steps, World], JsonObject]


def with_baselines(phase: Phase | None, rows: TrainingData) -> Phase | None:
    """Return a phase after training that adds the baselines of a table; others unchanged."""
    if rows.data.kind != "table" or rows.data.levels is not None:
        return phase

    def and_baselines(steps: Steps, world: World) -> JsonObject:
        result = {} if phase is None else phase(steps, world)
        return {**result, "baselines": _baselines(rows)}

    return and_baselines


def _baselines(rows: TrainingData) -> JsonObject:
    """Return the NLL of the validation's rows under each baseline of the training rows."""
    train = np.asarray(rows.data.values[rows.rows], np.float64)
    held_out = np.asarray(rows.held_out_data.values[rows.held_out_rows], np.float64)
    columns = rows.data.columns
    if columns is None:
        columns = Columns.numeric([f"c{i}" for i in range(train.shape[1])])
    return baseline_nll(train, held_out, columns)


def baseline_rows(result: JsonObject) -> list[tuple[str, float]]:
    """Return names and held-out NLL, in nats per row, of the VAE and the baselines of a result."""
    scores = result.get("baselines") or {}
    rows = [
        (baseline.summary, scores[name])
        for name, baseline in BASELINES.items()
        if scores.get(name) is not None
    ]
    nll = result.get("nll_nats", result.get("validation_nll_nats"))
    return [("this VAE", nll), *rows] if rows and nll is not None else []


def baseline_text(result: JsonObject) -> list[str]:
    """Return a line that compares the held-out NLL with the baselines; none without them."""
    rows = baseline_rows(result)
    if not rows:
        return []
    listed = ", ".join(f"{name} {nll:.3f}" for name, nll in rows)
    return [f"held-out NLL in nats per row: {listed}"]


def write_baselines(run: RunFolder) -> None:
    """Write the comparison of a finished run into ``samples/``, for the report."""
    done = Path(run.path) / "DONE"
    rows = baseline_rows(read_json(done)) if done.exists() else []
    if not rows:
        return
    item = {
        "kind": "texts",
        "title": "Held-out negative log-likelihood beside baselines",
        "note": "In nats per row, in the units of the data; baselines are fitted to the same rows.",
        "columns": ["model", "nats per row"],
        "rows": [[name, f"{nll:.3f}"] for name, nll in rows],
    }
    write_json(run.subfolder("samples") / "baselines.json", item)
