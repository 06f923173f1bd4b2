"""Which data are unlike those a model was trained on? Two scores and how well each tells two files apart.

``python -m experiments.examples.outliers RUN --inside held_out.npz --outside others.npz --out
scores.csv``

``nll_nats`` is minus the importance-sampled log-likelihood, ``regret_nats`` what refining the
posterior of that one datum adds to its bound. AUROC is the probability that a datum of ``outside``
scores above one of ``inside``, with its standard error over data; 0.5 is chance, and below 0.5 the
score is turned around: simple images are likelier than the data of any model.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

import density
from density.estimation.diagnostics import unreliable
from density.trained import TrainedDensity
from experiments.cli.commands import run
from experiments.data.outputs import output_file
from experiments.data.readers import read
from experiments.evaluation.open_run import open_run
from experiments.images.run import fit_to
from experiments.training.task import reseed
from univae.errors import InputError

__all__ = ["Config", "main"]

ROWS = 100  # data in a batch


@dataclass(frozen=True, kw_only=True)
class Config:
    """Scores two files with a trained image or table model."""

    run: tyro.conf.Positional[Path]  # the run folder
    inside: str  # data like those of training, which were not trained on
    outside: str  # other data of the same shape
    samples: int = 100  # importance samples per datum
    steps: int = 100  # of refinement, for the regret
    limit: int = 500  # data of each file
    out: Path | None = None  # a .csv file with a row per datum
    overwrite: bool = False  # replace an existing output file
    seed: int = 0


def main(config: Config) -> dict[str, Any]:
    """Return the AUROC of each score, its standard error, and the share of data whose likelihood is unreliable."""
    out = output_file(config.out, config.overwrite, (config.run, config.inside, config.outside))
    opened = open_run(TrainedDensity, config.run)
    reseed(config.seed, "outliers")
    rows: list[dict[str, Any]] = [
        {"file": name, "outside": int(name == config.outside), **row}
        for name in (config.inside, config.outside)
        for row in _scores(opened, name, config)
    ]
    outside = np.array([row["outside"] for row in rows])
    if outside.all() or not outside.any():
        raise InputError(
            f"outliers: inside and outside must be two files; got {config.inside} twice"
        )
    if out is not None:
        with out.file() as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    found: dict[str, Any] = {
        "run": str(config.run),
        "count": len(rows),
        "outside": int(outside.sum()),
    }
    for name in ("nll_nats", "regret_nats"):
        found[name] = _auroc(outside, np.array([row[name] for row in rows]), config.seed)
    khat = torch.tensor([row["khat"] for row in rows])
    return found | {"khat_above_0.7": unreliable(khat).double().mean().item()}


def _scores(opened: TrainedDensity, name: str, config: Config) -> list[dict[str, float]]:
    data = fit_to(opened, read(name))
    rows = []
    for start in range(0, min(len(data), config.limit), ROWS):
        x = data.batch(slice(start, min(len(data), config.limit, start + ROWS))).to(opened.device)
        found = density.estimate(opened.model, x, config.samples, proposal=density.Widened(1.2))
        regret = density.likelihood_regret(opened.model, x, config.steps)
        columns = zip(
            (-found.log_likelihood).tolist(), found.khat.tolist(), regret.tolist(), strict=True
        )
        rows += [{"nll_nats": nll, "khat": khat, "regret_nats": own} for nll, khat, own in columns]
    return rows


def _auroc(outside: np.ndarray, score: np.ndarray, seed: int, draws: int = 200) -> dict[str, float]:
    """Return the AUROC and its bootstrap standard error, resampling either file within itself.

    Only ranks count: an infinite score ranks above all, and one that is no number beside it.
    """
    score = rankdata(np.where(np.isnan(score), np.inf, score))
    generator = np.random.default_rng(seed)
    files = [np.flatnonzero(outside == side) for side in (0, 1)]
    again = []
    for _ in range(draws):
        picked = np.concatenate([generator.choice(rows, len(rows)) for rows in files])
        again.append(roc_auc_score(outside[picked], score[picked]))
    return {
        "auroc": float(roc_auc_score(outside, score)),
        "standard_error": float(np.std(again, ddof=1)),
    }


if __name__ == "__main__":
    run(Config, main)
