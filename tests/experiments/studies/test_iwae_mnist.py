"""The study of likelihoods on MNIST: its arms, its table and its figure."""

from pathlib import Path

from experiments.images.presets import PRESETS
from experiments.studies.iwae_mnist import ARMS, draw, markdown, parse, training_job
from univae.checkpoint import JsonObject


def row(arm: str, nll: float) -> JsonObject:
    published = ARMS[arm].published
    return {
        "arm": arm,
        "nll_nats": nll,
        "published_nll_nats": published.nll if published else None,
        "minus_elbo_nats": nll + 1,
        "standard_error_over_data_nats": 0.2,
        "samples": 100,
        "khat_above_0.7": 0.25,
        "epochs": 35.4,
        "processor_minutes": 99.9,
        "curve_minutes_nll_minus_elbo": [(10.0, nll + 2, nll + 3), (20.0, nll, nll + 1)],
    }


def test_the_smallest_nll_comes_first_and_the_bar_is_judged(tmp_path: Path) -> None:
    rows = [row("vae-1", 90.3), row("neighbours-wide", 81.5)]
    lines = markdown(rows).splitlines()
    assert lines[2] == "| `neighbours-wide` | 100 | 35 | 81.50 ± 0.20 | 100 | 25.0% | 82.50 |  |"
    assert lines[3].endswith("| 86.76 |")
    assert lines[-1] == "The bar of 81.0 nats is missed by 0.50."
    assert markdown([row("neighbours", 81.0)]).endswith("The bar of 81.0 nats is met.")
    draw(rows, tmp_path / "figures" / "curve.png")
    assert (tmp_path / "figures" / "curve.png").stat().st_size > 10_000


def test_an_arm_is_its_preset_with_its_changes() -> None:
    files = ["--train", "train.gz", "--test", "test.gz", "--out", "runs"]
    options = parse([*files, "--minutes", "3", "--arms", "neighbours-wide"])
    config = training_job(options, "neighbours-wide").config
    flat = config.flat()
    assert (flat["context"], flat["reach"], flat["minutes"]) == (32, 7, 3.0)
    assert flat["lr"] == PRESETS["neighbours"]["lr"]
