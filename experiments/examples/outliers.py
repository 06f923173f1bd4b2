"""Detection of rows unlike the training set: two scores, and how well they separate two files.

``python -m experiments.examples.outliers RUN --inside held_out.npz --outside others.npz --out
scores.csv``

``nll_nats`` is minus the importance-sampled log-likelihood, ``regret_nats`` the increase of the
bound when the posterior is refined for one row. The AUROC is the probability that a row of
``outside`` has a higher score than a row of ``inside``, with a standard error over rows; 0.5 is
chance. An AUROC below 0.5 means a reversed order: simple images can have a higher likelihood than
the training set.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

import density
from density.trained import TrainedDensity
from experiments.cli.commands import run
from experiments.data.outputs import Output, output_file
from experiments.evaluation.khat_shares import KhatShares
from experiments.evaluation.open_run import open_run
from experiments.images.run import read_for
from experiments.training.task import reseed
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["Config", "main"]

BATCH = 100  # rows scored at once
SCORES = ("nll_nats", "regret_nats")
RESAMPLES = 200  # of the bootstrap
WIDENING = 1.2  # of the posterior as the proposal


@dataclass(frozen=True, kw_only=True)
class Config:
    """Score the rows of two files with a trained image or table model."""

    run: tyro.conf.Positional[Path]  # the run folder
    inside: str  # held-out rows from the distribution of the training set
    outside: str  # rows of the same shape from another distribution
    samples: int = 100  # importance samples per row; more: smaller error of nll_nats
    steps: int = 100  # gradient steps of the refined posterior in regret_nats
    limit: int = 500  # rows scored of each file
    out: Path | None = None  # a .csv file for the scores of every row
    overwrite: bool = False  # replace an existing output file
    seed: int = 0  # of the random draws


def main(config: Config) -> JsonObject:
    """Return the AUROC of each score with its standard error, and the fraction with k-hat > 0.7.

    Raises:
        InputError: ``inside`` and ``outside`` are the same file.
    """
    out = output_file(config.out, config.overwrite, (config.run, config.inside, config.outside))
    image_run = open_run(TrainedDensity, config.run)
    reseed(config.seed, "outliers")
    rows: list[JsonObject] = []
    for name in (config.inside, config.outside):
        is_outside = int(name == config.outside)
        for scores in _scores(image_run, name, config):
            rows.append({"file": name, "outside": is_outside, **scores})
    outside = np.array([row["outside"] for row in rows])
    if outside.all() or not outside.any():
        raise InputError(
            f"outliers: inside and outside must be two files; got {config.inside} twice"
        )
    if out is not None:
        _write(out, rows)

    result: JsonObject = {
        "run": str(config.run),
        "count": len(rows),
        "outside": int(outside.sum()),
    }
    for name in SCORES:
        result[name] = _auroc(outside, np.array([row[name] for row in rows]), config.seed)
    khat = torch.tensor([row["khat"] for row in rows])
    result["khat_above_0.7"] = KhatShares.of(khat, config.samples).above_07
    return result


def _write(out: Output, rows: Sequence[JsonObject]) -> None:
    with out.file() as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _scores(image_run: TrainedDensity, name: str, config: Config) -> list[JsonObject]:
    """Return the scores of the first rows of a file."""
    data = read_for(image_run, name)
    count = min(len(data), config.limit)
    rows: list[JsonObject] = []
    for start in range(0, count, BATCH):
        x = data.batch(slice(start, min(count, start + BATCH))).to(image_run.device)
        estimate = density.estimate(
            image_run.model, x, config.samples, proposal=density.Widened(WIDENING)
        )
        regret = density.likelihood_regret(image_run.model, x, config.steps)
        for i in range(len(x)):
            row = {
                "nll_nats": -estimate.log_likelihood[i].item(),
                "khat": estimate.khat[i].item(),
                "regret_nats": regret[i].item(),
            }
            rows.append(row)
    return rows


def _auroc(outside: np.ndarray, score: np.ndarray, seed: int) -> JsonObject:
    """Return the AUROC and its bootstrap standard error, with both files resampled separately.

    Infinite scores and NaN rank above all other scores.
    """
    ranks = rankdata(np.where(np.isnan(score), np.inf, score))
    generator = np.random.default_rng(seed)
    files = [np.flatnonzero(outside == side) for side in (0, 1)]
    resampled = []
    for _ in range(RESAMPLES):
        selection = np.concatenate([generator.choice(rows, len(rows)) for rows in files])
        resampled.append(roc_auc_score(outside[selection], ranks[selection]))
    return {
        "auroc": float(roc_auc_score(outside, ranks)),
        "standard_error": float(np.std(resampled, ddof=1)),
    }


if __name__ == "__main__":
    run(Config, main)
