"""The study of windows: its jobs, its paired intervals and its tables."""

import math
from pathlib import Path

import numpy as np
import pytest

from experiments.studies import window, window_gaps, window_updates
from experiments.studies.harness import paired
from experiments.studies.window import markdown
from experiments.studies.window_training import BATCH, fixed_batches
from univae.checkpoint import JsonObject

SEEDS = range(3)
SETTINGS = [(4, 1e-3)]
RATES = [1e-3, 1e-2]


def tables() -> JsonObject:
    """Return tables in which ``plain`` costs 2, 3 and 4 nats, and rates have known means."""
    results: dict[str, JsonObject] = {}
    for seed in SEEDS:
        for arm in window_gaps.arms_of(4):
            nll_nats = 100.0 + 10 * seed + (2 + seed if arm == "plain" else 0)
            result = {"nll_nats": nll_nats, "elbo_nats": -nll_nats - 1}
            results[f"{arm}-k4-lr0.001-seed{seed}"] = result
        for arm in window_updates.ARMS:
            results[f"small-{arm}-1texts-lr0.001-seed{seed}"] = {"nll_nats": 50.0 + seed}
            results[f"small-{arm}-1texts-lr0.01-seed{seed}"] = {"nll_nats": 40.0 + seed}
    results["small-every-1texts-lr0.01-seed1"] = {"failed": "the loss is nan"}
    return {
        "accumulation": window_gaps.rows(results, SETTINGS, SEEDS),
        "small_batch": window_updates.rows(results, RATES, SEEDS, [1]),
    }


def test_a_paired_interval_is_students() -> None:
    result = paired([2.0, 3.0, 4.0])
    half_width = 4.302652729749464 / math.sqrt(3)  # t at 0.975 with two degrees of freedom
    assert result["interval"] == pytest.approx([3 - half_width, 3 + half_width], rel=1e-9)
    assert paired([1.0])["interval"] is None


def test_gaps_are_paired_by_seed() -> None:
    rows = {row["second_moment"]: row for row in tables()["accumulation"]}
    assert rows["plain"]["nll_nats_gap"]["each"] == [2, 3, 4]
    assert rows["plain"]["minus_elbo_nats_gap"]["each"] == [2, 3, 4]
    assert rows["buffered"]["nll_nats_gap"]["each"] == [0, 0, 0]
    assert rows["plain"]["nll_nats"]["mean"] == 113


def test_the_best_rate_is_one_at_which_every_seed_trains() -> None:
    best = {row["updates"]: row["lr"] for row in tables()["small_batch"] if row["best"]}
    assert best == {"every": 1e-3, "slower": 1e-2, "window": 1e-2}


def test_markdown_shows_gaps_with_intervals_and_the_best_rates() -> None:
    lines = markdown(tables()).splitlines()
    assert lines[0] == "| second moment | k = 4, rate 0.001 |"
    assert "| buffered | 110.00 |" in lines
    assert "| plain | +3.00 (+0.52 to +5.48) |" in lines
    assert "| every | 51.0 ± 1.0 (rate 0.001) |" in lines
    assert "| window | 41.0 ± 1.0 (rate 0.01) |" in lines


def test_results_without_intervals_have_no_table() -> None:
    old = tables()
    for row in old["accumulation"]:
        del row["nll_nats_gap"]["interval"]
    assert markdown(old) == ""


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    window.draw(tables(), tmp_path / "figures" / "window.png")
    assert (tmp_path / "figures" / "window.png").stat().st_size > 10_000


def test_arms_of_a_setting_see_as_many_tokens_and_do_not_clip(tmp_path: Path) -> None:
    for job in window_gaps.jobs(tmp_path, 7, [0], [(16, 1e-3)]):
        config = job.config
        assert config.batch_tokens * config.window * config.accumulate == BATCH
        assert config.clip == 0
        assert config.steps == 7


def test_micro_batches_hold_a_number_of_texts_each_text_once() -> None:
    indices = np.arange(10, 21)
    first = fixed_batches(indices, 4, seed=3, epoch=0)
    assert [len(batch) for batch in first] == [4, 4]
    seen = np.concatenate(first)
    assert len(set(seen)) == 8
    assert set(seen) <= set(indices)
    assert not np.array_equal(seen, np.concatenate(fixed_batches(indices, 4, 3, 1)))
    assert np.array_equal(seen, np.concatenate(fixed_batches(indices, 4, 3, 0)))
