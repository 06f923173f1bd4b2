"""``univae likelihood``: an estimate of the log-likelihood of every datum, with diagnostics."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.evaluation.estimators import Estimator
from experiments.evaluation.methods import Estimation
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.score_table import Table, scores_file
from experiments.evaluation.scorer import Scorer, ScoringTask
from experiments.evaluation.simulated import Simulation
from experiments.kinds import SCORERS, row_of_kind
from experiments.reports.page import update
from experiments.training.distributed import join
from experiments.training.processes import is_first_process
from experiments.training.settings import LIMIT, SEED
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, write_json
from univae.rules import Rule

__all__ = ["Config", "main", "scored"]


@dataclass(frozen=True, kw_only=True)
class Config(Estimation):
    """Estimates log p(x) of every text, image or row, by importance sampling or annealed chains."""

    run: tyro.conf.Positional[Path]  # the run folder
    # data to score: a file of one text per line, or python-docs; for images and tables any source
    # of train-density
    data: str
    # file to write, with a row per datum: .csv, .tsv, .jsonl or .parquet
    out: Path | None = None
    overwrite: bool = False  # replace an existing output file
    limit: int = 0  # number of data to score, the first of --data; 0: all
    seed: int = 0  # seed of the samples
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "limit": LIMIT,
        "seed": SEED,
    }


@torch.no_grad()
def main(config: Config) -> JsonObject:
    """Return means per datum in nats, and rates per token, character, word or dimension.

    ``log_likelihood_nats`` is an estimate, in expectation a lower bound; ``elbo_nats`` is the mean
    log-weight, with ``--proposal posterior`` the ELBO; ``jackknife_nats`` is the estimate less its
    bias of order 1 / samples, no bound. Numbers that a method does not have are null. Texts count
    one end token each, and one end in ``perplexity_per_word``; ``bits_per_char`` is per character
    without line ends, and null where words are unknown, because the likelihood is then that of
    <unk>. ``sandwich`` holds the bounds of simulated data.
    """
    out = scores_file(config.out, (config.run, config.data), overwrite=config.overwrite)
    new_scorer = row_of_kind(config.run, SCORERS, "likelihood")
    estimator = config.estimator
    with join(config.device) as world:
        device = str(world.device)
        task = ScoringTask(
            config.run, device, config.data, config.limit, estimator, config.seed, world
        )
        scorer = new_scorer(task)
        estimator.check(scorer.model)
        if config.simulation is not None:
            config.simulation.check(scorer)
        rows = ScoreColumns.of(scored(scorer, estimator, out))
        return _result(config, scorer, rows) if world.first else {}


def _result(config: Config, scorer: Scorer, rows: ScoreColumns) -> JsonObject:
    """Return the result of the scores of all data, which become a part of the report."""
    estimator = config.estimator
    simulation = config.simulation
    result: JsonObject = {
        "run": str(config.run),
        "method": config.method,
        **estimator.settings(),
        **estimator.totals(rows),
    }
    mean = result["log_likelihood_nats"]
    result |= scorer.rates(rows, math.nan if mean is None else mean)
    if simulation is not None:
        reseed(config.seed, "sandwich")
        result |= _simulated(scorer, simulation, result.get("notes", []))
    return _with_report(scorer, estimator, rows, result)


def _simulated(scorer: Scorer, simulation: Simulation, notes: Sequence[str]) -> JsonObject:
    """Return the keys ``sandwich``, and ``notes`` with those on it."""
    bounds = simulation.bounds(scorer)
    return {"sandwich": bounds, "notes": [*notes, *simulation.notes(bounds)]}


def scored(scorer: Scorer, estimator: Estimator, out: Output | None) -> Iterator[JsonObject]:
    """Yield the scores of the data, each written to ``out`` first, if there is one.

    Of several processes the first yields and writes them, the others nothing.
    """
    if out is None or not is_first_process():
        yield from scorer.rows()
        return
    with Table.open(out, (*estimator.columns, *scorer.columns), scorer.table) as table:
        for row in scorer.rows():
            table.add(row)
            yield row


def _with_report(
    scorer: Scorer, estimator: Estimator, rows: ScoreColumns, result: JsonObject
) -> JsonObject:
    """Add the scores to the run's report; return the result with the report and all notes."""
    folder = scorer.folder
    notes = [*scorer.notes(rows, result), *result.pop("notes", [])]
    title = f"Log-likelihood of {result['data']}, {estimator.title}"
    content = estimator.report_item(rows, result, title)
    content["note"] = " ".join((content["note"], *(f"{note}." for note in notes)))
    if rows.stride > 1:
        content["note"] += f" The plots show one in {rows.stride} of the {len(rows)} data."

    def write_scores() -> None:
        write_json(folder.subfolder("samples") / "likelihood.json", content)

    report, problems = update(folder.path, lambda: scorer.write_worst(rows), write_scores)
    print_notes([*notes, *problems])
    return with_notes({**result, "report": report}, [*folder.notes, *notes, *problems])


if __name__ == "__main__":
    run(Config, main)
