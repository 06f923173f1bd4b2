"""The examples run, and say what they promise."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from experiments import train_density
from experiments.data.readers import read
from experiments.examples import outliers, pyro_mixture, pyro_two_levels
from univae.errors import InputError


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_a_mixture_with_an_enumerated_cluster_is_scored_beside_its_exact_evidence() -> None:
    result = pyro_mixture.main(pyro_mixture.Config(steps=300, samples=2000))
    assert result["elbo_nats"] < result["log_likelihood_nats"]
    assert result["log_likelihood_nats"] == pytest.approx(result["exact_nats"], abs=0.1)
    # thirteen independent standard normals cost 13/2 log(2 pi e)
    assert result["exact_nats"] > -18.45


@pytest.mark.slow
def test_two_levels_in_pyro_learn_digits() -> None:
    result = pyro_two_levels.main(pyro_two_levels.Config(steps=150, samples=50, hidden=64))
    for scores in result["proposals"].values():
        assert -40 < scores["log_likelihood_nats"] < -20  # 64 fair coins: -44.4
        assert scores["elbo_nats"] < scores["log_likelihood_nats"]


@pytest.mark.slow
def test_outliers_are_told_apart_with_the_error_of_the_auroc(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_density.train(
        train_density.Config.of(
            data="digits",
            out=run,
            latents=(4,),
            hidden=(64,),
            binarisation="threshold",
            steps=300,
            lr=5e-3,
            threads=1,
            validate_every=0,
        )
    )
    mirrored = 15 * np.flip(read("digits").values[:80], -1)  # grey levels of 0..255
    np.save(tmp_path / "mirrored.npy", np.ascontiguousarray(mirrored.reshape(-1, 8, 8)))
    config = outliers.Config(
        run=run,
        inside="digits",
        outside=str(tmp_path / "mirrored.npy"),
        limit=80,
        samples=20,
        steps=10,
        out=tmp_path / "scores.csv",
    )
    result = outliers.main(config)
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (result["count"], result["outside"], len(rows)) == (160, 80, 160)
    outside = [int(row["outside"]) for row in rows]
    for name in ("nll_nats", "regret_nats"):
        again = roc_auc_score(outside, [float(row[name]) for row in rows])
        assert result[name]["auroc"] == pytest.approx(again)
        assert 0.01 < result[name]["standard_error"] < 0.06
    assert result["nll_nats"]["auroc"] > 0.7


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_density.train(
        train_density.Config.of(
            data="digits", out=run, latents=(2,), hidden=(8,), steps=2, threads=1, validate_every=0
        )
    )
    config = outliers.Config(
        run=run, inside="digits", outside="digits", limit=4, samples=2, steps=1
    )
    with pytest.raises(InputError, match="inside and outside must be two files; got digits twice"):
        outliers.main(config)
