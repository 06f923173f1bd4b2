"""Error and time of estimators by their number of samples, and their times at the same error.

An error is measured by repetitions with other seeds. The one that an estimator claims is reported
beside it, and not used.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import density
from density.estimation.proposals import Sobol, Widened
from univae.checkpoint import JsonObject

__all__ = [
    "NEWTON",
    "REFERENCE",
    "SOBOL",
    "Contestant",
    "Curve",
    "Draw",
    "measured",
    "ratios",
    "time_at_error",
]

SETS = 8  # independent Sobol sets of an estimate, whose spread is the standard error
SOBOL = Sobol(Widened(1.1), SETS)
NEWTON = density.Newton(proposal=SOBOL)
REFERENCE = density.Newton(rounds=4, proposal=SOBOL)

RESAMPLES = 1000  # of the data, for intervals
INTERVAL = (0.05, 0.95)
SEEDS = 100_000  # apart, for the repetitions


class Draw(NamedTuple):
    """An estimate of each datum, in nats."""

    log_likelihood: Tensor  # (N,)
    standard_error: Tensor | None  # (N,), as the estimator itself claims


@dataclass(frozen=True)
class Contestant:
    """An estimator of N data from a number of samples each."""

    sizes: Sequence[int]
    run: Callable[[int], Draw]  # from the number of samples a datum


@dataclass(frozen=True)
class Curve:
    """What an estimator gave at each of S sizes, in R repetitions, for N data."""

    sizes: Sequence[int]
    seconds: np.ndarray  # (S, R) processor seconds of all data
    estimates: np.ndarray  # (S, R, N) nats
    claimed: np.ndarray  # (S, R, N) standard errors, NaN without any

    def spread(self, data: np.ndarray) -> np.ndarray:
        """Return the root mean square over data of the deviation between repetitions, (S,)."""
        return self.estimates[..., data].var(1, ddof=1).mean(-1) ** 0.5

    def rmse(self, truth: np.ndarray, data: np.ndarray) -> np.ndarray:
        """Return the root mean square difference from ``truth`` over repetitions and data, (S,)."""
        squares = np.square(self.estimates[..., data] - truth[data])
        return squares.mean((1, 2)) ** 0.5

    def rows(self, truth: np.ndarray) -> list[JsonObject]:
        """Return a record of each size."""
        data = np.arange(len(truth))
        spreads = self.spread(data)
        errors = self.rmse(truth, data)
        rows = []
        for i, size in enumerate(self.sizes):
            milliseconds = 1e3 * self.seconds[i] / len(truth)
            claimed = np.square(self.claimed[i]).mean() ** 0.5
            row = {
                "samples": size,
                "milliseconds_per_datum": np.quantile(milliseconds, [0.25, 0.5, 0.75]).tolist(),
                "spread_nats": spreads[i],
                "claimed_nats": None if np.isnan(claimed) else claimed,
                "rmse_nats": errors[i],
                "bias_nats": (self.estimates[i] - truth).mean(),
            }
            rows.append(row)
        return rows


def measured(contestants: Mapping[str, Contestant], repeats: int) -> dict[str, Curve]:
    """Run every contestant at each of its sizes once per round, after one that is not timed."""
    seconds: dict[str, list[list[float]]] = {}
    draws: dict[str, list[list[Draw]]] = {}
    for name, contestant in contestants.items():
        contestant.run(contestant.sizes[0])
        seconds[name] = [[] for _ in contestant.sizes]
        draws[name] = [[] for _ in contestant.sizes]

    for repeat in range(repeats):
        for name, contestant in contestants.items():
            for i, size in enumerate(contestant.sizes):
                torch.manual_seed(SEEDS * (1 + repeat) + i)
                start = time.process_time()
                draw = contestant.run(size)
                seconds[name][i].append(time.process_time() - start)
                draws[name][i].append(draw)

    curves = {}
    for name, contestant in contestants.items():
        estimates = [[draw.log_likelihood.numpy() for draw in row] for row in draws[name]]
        claimed = [[_claimed(draw) for draw in row] for row in draws[name]]
        curves[name] = Curve(
            contestant.sizes, np.array(seconds[name]), np.array(estimates), np.array(claimed)
        )
    return curves


def _claimed(draw: Draw) -> np.ndarray:
    if draw.standard_error is None:
        return np.full(len(draw.log_likelihood), np.nan)
    values: np.ndarray = draw.standard_error.numpy()
    return values


def time_at_error(errors: np.ndarray, seconds: np.ndarray, target: float) -> float:
    """Return the time of an error, linear in both logarithms between measured sizes.

    An error counts as that of the worst of all larger sizes, so that a size that is precise by
    chance does not shorten the time. A ``target`` above the error of the fewest samples takes their
    time; one below that of the most has none, and NaN is returned.
    """
    worst = np.maximum.accumulate(errors[::-1])  # ascending
    if target < worst[0]:
        return float("nan")
    return float(np.exp(np.interp(np.log(target), np.log(worst), np.log(seconds[::-1]))))


def ratios(reference: Curve, curve: Curve, truth: np.ndarray, fixed: float) -> list[JsonObject]:
    """Return the time of the reference over that of a contestant, at each error of the reference.

    ``ratio`` is of equal spread, ``ratio_by_rmse`` of equal root mean square error, bias included.
    ``over_rounds`` are the quartiles of the ratios within a round; ``interval_90`` is a bootstrap
    over data. ``ratio_with_fixed_cost`` adds ``fixed`` seconds to the time of the contestant.
    """
    whole = np.arange(len(truth))
    generator = np.random.default_rng(0)
    selections = generator.integers(len(truth), size=(RESAMPLES, len(truth)))
    reference_seconds = np.median(reference.seconds, 1)
    seconds = np.median(curve.seconds, 1)
    targets = reference.spread(whole)
    errors = curve.spread(whole)
    rmse_targets = reference.rmse(truth, whole)
    rmse_errors = curve.rmse(truth, whole)
    rows = []
    for i, size in enumerate(reference.sizes):
        own = time_at_error(errors, seconds, targets[i])
        by_rmse = time_at_error(rmse_errors, seconds, rmse_targets[i])
        rounds = [
            reference.seconds[i, r] / time_at_error(errors, curve.seconds[:, r], targets[i])
            for r in range(curve.seconds.shape[1])
        ]
        resampled = []
        for data in selections:
            target = reference.spread(data)[i]
            resampled.append(time_at_error(curve.spread(data), seconds, target))
        row = {
            "reference_samples": size,
            "error_nats": targets[i],
            "ratio": reference_seconds[i] / own,
            "at_least": bool(targets[i] > errors[0]),  # the fewest samples are more precise
            "over_rounds": np.quantile(rounds, [0.25, 0.5, 0.75]).tolist(),
            "interval_90": (
                reference_seconds[i] / np.nanquantile(resampled, INTERVAL[::-1])
            ).tolist(),
            "ratio_by_rmse": reference_seconds[i] / by_rmse,
            "ratio_with_fixed_cost": reference_seconds[i] / (own + fixed),
        }
        rows.append(row)
    return rows
