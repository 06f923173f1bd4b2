"""Estimators of log p(x): their interface, and importance sampling of a fixed number of samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from density import LatentModel, log_weights
from density.estimation.datum_scores import REFINED
from experiments.evaluation.proposals import check_proposal, proposal, proposal_settings
from experiments.evaluation.resampled import RESAMPLED, resampled, resampled_totals
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scores import report_item, rows_of, totals
from univae.checkpoint import JsonObject

__all__ = ["Diagnostic", "Estimator", "Importance", "likelihood_item"]


@dataclass(frozen=True)
class Diagnostic:
    """The column that shows how far the estimate of a row can be trusted."""

    column: str
    label: str


KHAT = Diagnostic("khat", "k-hat")


@runtime_checkable
class Estimator(Protocol):
    """A method of estimation with its settings, which scorers apply to batches."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its rows besides :data:`experiments.evaluation.scores.COLUMNS`."""

    @property
    def diagnostic(self) -> Diagnostic:
        """The column by which its rows are judged."""

    @property
    def latents(self) -> int:
        """The number of latents of a datum that are decoded at once, whatever the chunk."""

    @property
    def title(self) -> str:
        """The method in words, for a report."""

    def check(self, model: LatentModel) -> None:
        """Raise :class:`univae.errors.InputError` for a model that it cannot estimate."""

    def rows(self, model: LatentModel, x: Tensor, chunk: int | None) -> list[JsonObject]:
        """Return a record of a row's columns for each row of a batch; None for no meaning."""

    def settings(self) -> JsonObject:
        """Return the settings, as a result states them."""

    def totals(self, rows: ScoreColumns) -> JsonObject:
        """Return means over rows with their diagnostics, and ``notes`` on what is null."""

    def report_item(self, rows: ScoreColumns, result: JsonObject, title: str) -> JsonObject:
        """Return the item of ``samples/`` for the report."""


@dataclass(frozen=True)
class Importance:
    """Importance sampling with ``samples`` samples a row from a proposal and its settings."""

    samples: int
    proposal: str
    changed: Mapping[str, float | None] = field(default_factory=dict)  # settings by name
    columns: ClassVar[tuple[str, ...]] = RESAMPLED
    diagnostic: ClassVar[Diagnostic] = KHAT
    latents: ClassVar[int] = REFINED

    @property
    def title(self) -> str:
        """The number of samples and the proposal."""
        return f"{self.samples} importance samples ({self.proposal})"

    def check(self, model: LatentModel) -> None:
        """Raise :class:`univae.errors.InputError` where the proposal does not fit the latents."""
        check_proposal(model, self.proposal)

    def rows(self, model: LatentModel, x: Tensor, chunk: int | None) -> list[JsonObject]:
        """Return the records of :func:`experiments.evaluation.scores.rows_of`, and both errors."""
        distribution = proposal(self.proposal, self.changed)
        log_w = log_weights(model, x, self.samples, proposal=distribution, chunk=chunk)
        rows = rows_of(log_w, distribution.replicates)
        errors = resampled(log_w, distribution.replicates)
        return [row | error for row, error in zip(rows, errors, strict=True)]

    def settings(self) -> JsonObject:
        """Return samples, proposal, and the settings that the proposal takes."""
        return {
            "samples": self.samples,
            "proposal": self.proposal,
            **proposal_settings(self.proposal, self.changed),
        }

    def totals(self, rows: ScoreColumns) -> JsonObject:
        """Return the totals of :func:`experiments.evaluation.scores.totals`, and both errors."""
        errors, notes = resampled_totals(rows)
        result = {**totals(rows, self.samples), **errors}
        notes = [*result.get("notes", []), *notes]
        return {**result, "notes": notes} if notes else result

    def report_item(self, rows: ScoreColumns, result: JsonObject, title: str) -> JsonObject:
        """Return the item of :func:`experiments.evaluation.scores.report_item`."""
        return report_item(rows, result, title)


def likelihood_item(
    rows: ScoreColumns, result: JsonObject, title: str, note: str, *columns: str
) -> JsonObject:
    """Return an item for the report with log-likelihoods, and further columns by name.

    It has no estimates by number of samples.
    """
    item: JsonObject = {
        "kind": "likelihood",
        "title": title,
        "note": note,
        "totals": dict(result),
        "ladder": None,
        "stride": rows.stride,
    }
    for name in ("log_likelihood", "standard_error", *columns):
        item[name] = rows.shown(name)
    return item
