"""Importance sampling until the standard error of every row is small enough."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from density import LatentModel, estimate_until
from density.estimation.datum_scores import REFINED
from density.estimation.diagnostics import unreliable
from experiments.evaluation.estimators import KHAT, Diagnostic, likelihood_item
from experiments.evaluation.proposals import check_proposal, proposal, proposal_settings
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scores import COLUMNS, records, totals
from univae.checkpoint import JsonObject

__all__ = ["FEWEST_FIRST", "UntilPrecise", "totals_by_row"]

FEWEST_FIRST = 21  # samples of the first round: fewer have no k-hat


@dataclass(frozen=True)
class UntilPrecise:
    """Importance sampling from ``samples`` up to ``limit`` samples a row, as its error asks for.

    ``standard_error`` is in nats a row, see :func:`density.estimate_until`.
    """

    samples: int  # of the first round
    standard_error: float
    limit: int
    proposal: str
    changed: Mapping[str, float | None] = field(default_factory=dict)  # settings by name
    columns: ClassVar[tuple[str, ...]] = ("samples", "reached")
    diagnostic: ClassVar[Diagnostic] = KHAT
    latents: ClassVar[int] = REFINED

    @property
    def title(self) -> str:
        """The error, the limit and the proposal."""
        return (
            f"importance samples ({self.proposal}) to a standard error of "
            f"{self.standard_error:g} nats, at most {self.limit}"
        )

    def check(self, model: LatentModel) -> None:
        """Raise :class:`univae.errors.InputError` where the proposal does not fit the latents."""
        check_proposal(model, self.proposal)

    def rows(self, model: LatentModel, x: Tensor, chunk: int | None) -> list[JsonObject]:
        """Return a record for each row, with its number of samples and whether they sufficed."""
        result = estimate_until(
            model,
            x,
            self.standard_error,
            start=self.samples,
            limit=self.limit,
            proposal=proposal(self.proposal, self.changed),
            chunk=chunk,
        )
        columns = {column: getattr(result.estimate, column) for column in COLUMNS}
        return records({**columns, "samples": result.samples, "reached": result.reached})

    def settings(self) -> JsonObject:
        """Return the samples of the first round, the error, the limit, and the proposal."""
        return {
            "samples": self.samples,
            "standard_error": self.standard_error,
            "limit_samples": self.limit,
            "proposal": self.proposal,
            **proposal_settings(self.proposal, self.changed),
        }

    def totals(self, rows: ScoreColumns) -> JsonObject:
        """Return the totals of scores, and the mean and largest number of samples.

        ``not_reached`` counts the rows whose error was not reached. Each row's k-hat is judged by
        the row's own number of samples.
        """
        result = totals_by_row(rows)
        notes = result.pop("notes", [])
        not_reached = len(rows) - rows.total("reached")
        if not_reached:
            notes.append(
                f"{not_reached} of {len(rows)} data did not reach a standard error of "
                f"{self.standard_error:g} nats within {self.limit} samples; raise --limit-samples, "
                "or try another --proposal"
            )
        result["not_reached"] = not_reached
        return {**result, "notes": notes} if notes else result

    def report_item(self, rows: ScoreColumns, result: JsonObject, title: str) -> JsonObject:
        """Return the item with log-likelihood, k-hat and number of samples of the rows shown."""
        count = _unreliable_rows(rows)
        note = (
            f"{count} of {len(rows)} data have a k-hat above the limit for their number of "
            "samples, or none: their estimate is no more than a better bound."
        )
        return likelihood_item(rows, result, title, note, "khat", "samples")


def totals_by_row(rows: ScoreColumns) -> JsonObject:
    """Return the totals of rows of different numbers of ``samples``, and their mean and largest.

    Each row's k-hat is judged by the row's own number.
    """
    samples = rows.column("samples")
    fewest, most = int(samples.min()), int(samples.max())
    result = totals(rows, fewest)
    notes = result.pop("notes", [])
    if most > fewest:
        result["khat_unreliable"] = _unreliable_rows(rows) / len(rows)
        result["khat_threshold"] = None
        notes.append(
            "khat_threshold is null: it grows with the number of samples, which differs from "
            f"row to row ({fewest} to {most})"
        )
    result |= {"samples_mean": rows.total("samples") / len(rows), "samples_largest": most}
    return {**result, "notes": notes} if notes else result


def _unreliable_rows(rows: ScoreColumns) -> int:
    """Return how many rows have a k-hat above the limit for their number of samples."""
    samples = rows.column("samples")
    khat = rows.column("khat")
    count = 0
    for each in samples.unique().tolist():
        count += int(unreliable(khat[samples == each], each).sum())
    return count
