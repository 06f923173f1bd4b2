"""``univae likelihood``: the importance-sampled log-likelihood of every datum, with diagnostics."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import tyro
from typing_extensions import Doc

from density.estimation.registry import PROPOSALS
from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output, output_file
from experiments.evaluation.proposals import ProposalName
from experiments.evaluation.score_table import Table
from experiments.evaluation.scorer import Scorer, ScoringTask
from experiments.evaluation.scores import report_item, totals
from experiments.kinds import SCORERS, row_of_kind
from experiments.reports.page import update
from experiments.training.settings import LIMIT, SEED
from experiments.training.task import reseed
from univae.checkpoint import JsonObject, write_json
from univae.registry import choices_help
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Estimates log p(x) of every text, image or row by importance sampling."""

    run: tyro.conf.Positional[Path]  # the run folder
    # data to score: a file of one text per line, or python-docs; for images and tables any source
    # of train-density
    data: str
    samples: int = 128  # importance samples per datum; more lower the standard error
    proposal: Annotated[ProposalName, Doc(choices_help("proposal distribution", PROPOSALS))] = (
        "posterior"
    )
    out: Path | None = None  # .csv file to write, with a row per datum
    overwrite: bool = False  # replace an existing output file
    limit: int = 0  # number of data to score, the first of --data; 0: all
    seed: int = 0  # seed of the samples
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "samples": at_least(1, 10**8),
        "limit": LIMIT,
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)


@torch.no_grad()
def main(config: Config) -> JsonObject:
    """Return means per datum in nats, and rates per token, character, word or dimension.

    ``log_likelihood_nats`` is an estimate, in expectation a lower bound; ``elbo_nats`` is the mean
    log-weight, with ``--proposal posterior`` the ELBO. Texts count one end token each, and one end
    in ``perplexity_per_word``; ``bits_per_char`` is per character without line ends, and null where
    words are unknown, because the likelihood is then that of <unk>.
    """
    out = output_file(config.out, config.overwrite, (config.run, config.data))
    new_scorer = row_of_kind(config.run, SCORERS)
    reseed(config.seed, "likelihood")
    scorer = new_scorer(_task(config))
    rows = _scored_rows(scorer, out)

    result: JsonObject = {
        "run": str(config.run),
        "samples": config.samples,
        "proposal": config.proposal,
    }
    result |= totals(rows, config.samples)
    mean = result["log_likelihood_nats"]
    result |= scorer.rates(rows, math.nan if mean is None else mean)
    return _with_report(scorer, rows, result)


def _task(config: Config) -> ScoringTask:
    return ScoringTask(
        run=config.run,
        device=config.device,
        data=config.data,
        limit=config.limit,
        samples=config.samples,
        proposal=config.proposal,
    )


def _scored_rows(scorer: Scorer, out: Output | None) -> list[JsonObject]:
    """Return the scores of all data; write each to ``out``, if there is one, as it is computed."""
    rows = []
    with Table.open(out, scorer.columns) as table:
        for row in scorer.rows():
            table.add(row)
            rows.append(row)
    return rows


def _with_report(scorer: Scorer, rows: Sequence[JsonObject], result: JsonObject) -> JsonObject:
    """Add the scores to the run's report; return the result with the report and all notes."""
    folder = scorer.folder
    notes = [*scorer.notes(rows, result), *result.get("notes", [])]
    title = (
        f"Log-likelihood of {result['data']}, "
        f"{result['samples']} importance samples ({result['proposal']})"
    )
    content = report_item(rows, result, title)
    content["note"] = " ".join((content["note"], *(f"{note}." for note in notes)))

    def write_scores() -> None:
        write_json(folder.subfolder("samples") / "likelihood.json", content)

    report, problems = update(folder.path, lambda: scorer.write_worst(rows), write_scores)
    print_notes([*notes, *problems])
    return with_notes({**result, "report": report}, [*folder.notes, *notes, *problems])


if __name__ == "__main__":
    run(Config, main)
