"""Estimates that decide for themselves, on models whose evidence is known.

Every case of :mod:`experiments.studies.known_evidence_models` has a posterior with a known fault:
shifted, too narrow or too wide, on one mode of two, of lighter tails. Reported for the plain
estimator and for ``estimate_auto``: the share of data called reliable, of these the share within
two standard errors of the truth, and the number that are wrong, by more than four standard errors
and 0.05 nats; the share that was refined, widened and annealed, and the decodes relative to the
plain estimator's.

``python -m experiments.studies.known_evidence --results experiments/results/known_evidence.json``
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from density.estimation.auto import estimate_auto
from density.estimation.diagnostics import unreliable
from density.estimation.importance import Estimate, estimate
from experiments.benchmarks.harness import report
from experiments.studies.known_evidence_models import CASES, Case, Counted, Problem
from univae.checkpoint import JsonObject

__all__ = ["main", "study", "total"]

NEAR = 2.0  # standard errors of a good estimate
FAR = 4.0  # standard errors of a wrong one,
LARGE = 0.05  # whose error is above this, in nats


def study(case: Case, count: int, samples: int) -> JsonObject:
    """Return a row of the table: ``count`` data of a case by both estimators."""
    problem = case(count)
    plain_model = Counted(problem.model)
    plain = estimate(plain_model, problem.x, samples)
    is_trusted = ~unreliable(plain.khat, samples)

    auto_model = Counted(problem.model)
    auto = estimate_auto(auto_model, problem.x, samples=samples)
    return {
        "data": count,
        "plain": _judged(problem, plain, is_trusted),
        "auto": {
            **_judged(problem, auto.estimate, auto.reliable),
            "refined": _share(auto.decision.refined),
            "widened": _share(auto.decision.widened),
            "annealed": _share(auto.annealed),
            "decodes": auto_model.rows / plain_model.rows,
        },
    }


def _judged(problem: Problem, result: Estimate, is_reliable: Bool[Tensor, "B"]) -> JsonObject:
    """Compare estimates with the truth."""
    error = (result.log_likelihood - problem.log_evidence).abs()
    # an exact proposal has a standard error and an error of the size of rounding
    stated = result.standard_error + 1e-9
    is_wrong = is_reliable & (error > FAR * stated) & (error > LARGE)
    is_near = is_reliable & (error <= NEAR * stated)
    return {
        "reliable": _share(is_reliable),
        "within_two_errors": int(is_near.sum()) / max(1, int(is_reliable.sum())),
        "reliable_and_wrong": int(is_wrong.sum()),
        "mean_error_nats": error.mean().item(),
        "mean_error_of_reliable_nats": error[is_reliable].mean().item(),
    }


def total(rows: Sequence[JsonObject]) -> JsonObject:
    """Return the row of all data."""
    data = sum(row["data"] for row in rows)
    reliable = 0.0
    near = 0.0
    decodes = 0.0
    for row in rows:
        auto = row["auto"]
        count = auto["reliable"] * row["data"]
        reliable += count
        near += auto["within_two_errors"] * count
        decodes += auto["decodes"] * row["data"]
    return {
        "data": data,
        "reliable": reliable / data,
        "flagged": 1 - reliable / data,
        "within_two_errors": near / reliable,
        "reliable_and_wrong": sum(row["auto"]["reliable_and_wrong"] for row in rows),
        "reliable_and_wrong_plain": sum(row["plain"]["reliable_and_wrong"] for row in rows),
        "decodes": decodes / data,
    }


def _share(mask: Bool[Tensor, "B"]) -> float:
    return mask.double().mean().item()


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=int, default=100, help="data of each case")
    parser.add_argument("--samples", type=int, default=128, help="importance samples of a datum")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    return parser.parse_args()


def main() -> None:
    """Run the study with the options of the command line."""
    options = parse()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(options.seed)
    rows = {name: study(case, options.data, options.samples) for name, case in CASES.items()}
    results = {
        "samples": options.samples,
        "cases": rows,
        "all": total(list(rows.values())),
    }
    report("known_evidence", results, options.results, kind="study")


if __name__ == "__main__":
    main()
