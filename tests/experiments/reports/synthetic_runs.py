"""Small run folders of every kind, written without training, for tests of pages."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.functions.training import DENSITY, GAN, SIMILAR_TEXTS, TEXT
from experiments.reports.image_grid import write_picture

__all__ = ["RUNS", "make_run", "validation_row", "write_run"]

HOSTILE = "<script>alert('1 & 2')</script> \"$x^{$\" 世界 \0 \ud800"
COMMANDS = {each.command: each for each in (TEXT, DENSITY, GAN, SIMILAR_TEXTS)}


def validation_row(step: int, nll: float, **more: Any) -> dict[str, Any]:
    row = {
        "kind": "validation", "step": step, "nll_nats": nll, "nll_standard_error": 0.5,
        "elbo_nats": -nll - 3, "reconstruction_nats": nll - 2, "kl_nats": [3.0, 1.5, 0.5],
        "active_units": 7, "mutual_information_nats": 4.5, "mutual_information_ceiling_nats": 6.9,
        "shuffled_gap_nats": 9.0, "verdict": HOSTILE,
    }  # fmt: skip
    return row | more


def make_run(path: Path, rows: list[dict[str, Any]] | None = None, **config: Any) -> Path:
    """A run of an unknown kind, whose last row of metrics is cut off."""
    (path / "samples").mkdir(parents=True)
    config = {"seed": 0, "lr": 0.1, "out": str(path), "nested": {"deep": None}} | config
    (path / "config.json").write_text(json.dumps(config))
    train = [
        {"kind": "train", "step": s, "loss": 5 / (s + 1) + 2, "lr": 0.1, "tokens_per_second": 100.0}
        for s in range(40)
    ]
    rows = rows if rows is not None else [*train, *(validation_row(s, 60 - s) for s in (0, 10, 20))]
    (path / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "tra'
    )
    return path


def write_run(
    path: Path,
    command: str,
    rows: Iterable[Mapping[str, Any]],
    data: Mapping[str, Any],
    preset: str = "tiny",
    **options: Any,
) -> Path:
    """A complete run of a training command, with all its options."""
    (path / "samples").mkdir(parents=True)
    trainer = COMMANDS[command]
    config = {**trainer.defaults, **trainer.presets[preset], **options}
    config |= {"command": command, "out": str(path)}
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "data.json").write_text(json.dumps(data))
    environment = {
        "univae": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "device": "cpu", "threads": 1,
        "command": f"/home/a/bin/univae {command} --preset {preset} --out {path}",
        "started": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    (path / "environment.json").write_text(json.dumps(environment))
    (path / "DONE").write_text(json.dumps({"notes": ["--text: 25 of 13139 texts were left out"]}))
    return path


def write_items(path: Path, items: Iterable[Mapping[str, Any]]) -> None:
    for number, item in enumerate(items):
        (path / "samples" / f"{number}.json").write_text(json.dumps(item))


def training_rows(count: int = 60, **more: float) -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        noise = math.sin(7.0 * i)
        row = {"kind": "train", "step": 20 * i, "loss": 2 + 5 / (i + 1) + 0.2 * noise}
        row |= {"lr": 0.003 * (1 - i / count), "seconds": 1.5 * i, "tokens_per_second": 6500.0}
        rows.append(row | {name: value + 0.1 * noise for name, value in more.items()})
    return rows


def likelihood_item(count: int = 300) -> dict[str, Any]:
    scores = [-25 + 4 * math.sin(3.7 * i) for i in range(count)]
    khat = [0.4 + 0.3 * math.cos(2.3 * i) for i in range(count)]
    return {
        "kind": "likelihood",
        "title": "Log-likelihood of test, 64 importance samples (posterior)",
        "note": "12 of 300 data have a k-hat above 0.45, the limit for 64 samples, or none.",
        "totals": {
            "count": count, "log_likelihood_nats": -25.1, "standard_error_nats": 0.012,
            "elbo_nats": -26.0, "bits_per_dim": 0.545, "khat_threshold": 0.45, "method": "importance",
            "convention": "bits per dimension = -log2 P(x) / 64, P the probability of the levels",
            "data": "some/long/path/of/a/folder/with/many/parts/test.npy",
        },
        "log_likelihood": scores,
        "standard_error": [0.01] * count,
        "khat": khat,
        "ladder": {"samples": [1, 2, 4, 8, 16, 32, 64], "nats": [-26.0 + 0.1 * i for i in range(7)]},
    }  # fmt: skip


def text_run(path: Path, **options: Any) -> Path:
    """A text VAE with texts, a map, scores and a calibration's table."""
    rows = [*training_rows(), *(validation_row(s, 160 - s / 20) for s in range(0, 1200, 200))]
    data = {"text": {"source": "python-docs", "fingerprint": "a", "count": 13139}}
    write_run(path, "train-text", rows, data, **options)
    xs = [math.cos(2.1 * i) * i for i in range(60)]
    ys = [math.sin(2.1 * i) * i for i in range(60)]
    texts = [f"The held-out text number {i} says something about modules." for i in range(60)]
    colours = [float(i % 20) for i in range(60)]
    pairs = [[HOSTILE, HOSTILE], [texts[0], "The other text."]]
    write_items(
        path,
        [
            {"kind": "points", "title": "Held-out texts in latent space", "x": xs, "y": ys,
             "labels": texts, "color": colours, "color_label": "words", "note": "Two components."},
            {"kind": "texts", "title": "Reconstructions", "columns": ["text", "reconstruction"],
             "rows": pairs},
            {"kind": "texts", "title": "Edits", "columns": ["layer", "text", "kept"],
             "rows": [["", "Returns a list.", ""], ["0", "Returns a new list of names.", "58%"]]},
            likelihood_item(),
            {"kind": "texts", "title": "The least likely texts, the lowest first",
             "columns": ["text", "log-likelihood, nats"], "rows": [["A long text.", "-412.10"]]},
        ],
    )  # fmt: skip
    return path


def image_run(path: Path, **options: Any) -> Path:
    """An image VAE with grids and scores."""
    rows = [*training_rows(), *(validation_row(s, 26 - s / 900) for s in range(0, 1200, 200))]
    data = {"data": {"source": "digits", "fingerprint": "b", "count": 1797}}
    write_run(path, "train-density", rows, data, **options)
    write_picture(path / "samples" / "grid.png", torch.rand(32, 1, 8, 8), 2)
    labels = ["held-out", "reconstruction"]
    title = "Held-out data, and below each row its reconstructions: the mean of each pixel"
    grid = {"kind": "images", "title": title, "file": "grid.png", "row_labels": labels}
    write_items(path, [likelihood_item(), grid])
    return path


def table_run(path: Path, **options: Any) -> Path:
    """A VAE of a table, trained from a file with a long path."""
    rows = [*training_rows(), *(validation_row(s, 20 + s / 900) for s in range(0, 1200, 200))]
    source = "/data/of/the/project/in/a/deep/folder/measurements_of_the_year/wine.csv"
    notes = ["columns (alcohol: numeric; od280/od315_of_diluted_wines: numeric)"]
    data = {"data": {"source": source, "fingerprint": "c", "count": 178, "notes": notes}}
    write_run(path, "train-density", rows, data, **options)
    table = {"kind": "texts", "title": "Held-out negative log-likelihood beside baselines",
             "note": "In nats per row.", "columns": ["model", "nats per row"],
             "rows": [["this VAE", "20.178"], ["independent columns", "23.883"]]}  # fmt: skip
    write_items(path, [table])
    return path


def gan_run(path: Path, shift: float = 0.0, **options: Any) -> Path:
    """A GAN with both players' curves, distances, grids by step and tables."""
    players = {"generator_loss": -0.2, "real_score": 0.4, "fake_score": -0.3, "penalty": 0.1}
    rows: list[dict[str, Any]] = training_rows(**players, norm_median=0.9, gradient_norm=2.0)
    for step in range(200, 1400, 200):
        distance = 900 / step + shift
        row = {"kind": "validation", "step": step, "selection": distance, "seconds": step / 10,
               "frechet_distance": distance, "kernel_distance": 60 / step, "precision": 0.7,
               "recall": step / 1400, "density": 0.3, "coverage": 0.4, "classes_found": 10,
               "feature_space": "digits-cnn-898157e4"}  # fmt: skip
        rows.append(row)
    data = {"data": {"source": "digits", "fingerprint": "b", "count": 1797}}
    write_run(path, "train-gan", rows, data, **options)
    for step in range(200, 1400, 200):
        images = torch.full((32, 1, 8, 8), float(step % 400 > 0))
        write_picture(path / "samples" / f"step_{step:06d}.png", images, 2)
    columns = ["data", "frechet[digits-cnn-898157e4]", "precision", "recall", "coverage", "classes"]
    metrics = [["moving average", "2.45", "0.726", "0.947", "0.361", "10"],
               ["floor: other real data", "0.411", "0.981", "0.963", "0.98", "10"]]  # fmt: skip
    write_items(path, [{"kind": "texts", "title": "Metrics, floor and known faults",
                        "columns": columns, "rows": metrics}])  # fmt: skip
    return path


def sentence_run(path: Path, **options: Any) -> Path:
    """A sentence model with similar texts."""
    rows: list[dict[str, Any]] = training_rows()
    for step in (400, 800, 1200):
        row = {"kind": "validation", "step": step, "selection": -step, "recall_at_1": 0.3,
               "recall_at_10": 0.9, "spearman": step / 1500, "generation_nats_per_token": 5.5,
               "held_out_loss": 8.3, "seconds": step / 10}  # fmt: skip
        rows.append(row)
    data = {"pairs": {"source": "groups.tsv", "fingerprint": "d", "count": 600}}
    write_run(path, "train-similar", rows, data, pairs=["groups.tsv"], **options)
    similar = {
        "kind": "texts",
        "title": "Similar texts, generated and ranked by the model itself",
        "columns": ["held-out text", "generated", "cosine"],
        "rows": [["A dog runs.", "A brown dog is running.", "0.901"], ["", "dogs", "0.7"]],
    }
    write_items(path, [similar])  # fmt: skip
    return path


# Kind of run -> writes one into a new folder.
RUNS: Mapping[str, Callable[..., Path]] = {
    "text": text_run,
    "images": image_run,
    "table": table_run,
    "gan": gan_run,
    "sentence": sentence_run,
}
