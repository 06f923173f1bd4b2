"""The benchmark of InfoNCE against rows: its checks of a result, and its figure."""

import json
from pathlib import Path

import pytest
import torch

from experiments.benchmarks import contrastive_rows

ROOT = Path(__file__).parents[3]


def test_a_small_loss_passes_both_checks_and_is_drawn(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    points = [contrastive_rows.measure_here(rows, 32) for rows in (64, 256)]
    for point in points:
        assert point["query_distance"] < 2e-6
        assert point["key_sum"] < 1e-6
        assert point["matrix_bytes"] == 4 * point["rows"] ** 2
    contrastive_rows.draw(points, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")


def test_the_published_times_are_quadratic_and_memory_is_linear_in_rows() -> None:
    assert (ROOT / "docs" / "figures" / "contrastive_rows.png").exists()
    content = json.loads((ROOT / "experiments" / "results" / "contrastive_rows.json").read_text())
    points = content["results"]["points"]
    for point in points:
        assert point["nanoseconds_per_score"] == pytest.approx(
            1e9 * point["seconds"] / point["rows"] ** 2
        )
        assert point["peak_bytes_more"] < 10 * point["vector_bytes"] + 2**25
        assert point["query_distance"] < 1e-6
