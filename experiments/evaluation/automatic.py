"""Estimates that decide for themselves how to sample, and say which of them to trust."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from density import LatentModel
from density.estimation.datum_scores import REFINED, auto_scores
from experiments.evaluation.estimators import KHAT, Diagnostic, likelihood_item
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scores import records
from experiments.evaluation.until_precise import totals_by_row
from univae.checkpoint import JsonObject

__all__ = ["Automatic"]


@dataclass(frozen=True)
class Automatic:
    """Estimates by :func:`density.estimate_auto` from at least ``samples`` samples a row.

    ``standard_error`` is in nats a row; None asks for none. ``elbo`` is the bound of the model's
    own posterior.
    """

    samples: int
    standard_error: float | None
    limit: int  # with ``standard_error``
    columns: ClassVar[tuple[str, ...]] = ("samples", "refined", "annealed", "reliable")
    diagnostic: ClassVar[Diagnostic] = KHAT
    latents: ClassVar[int] = REFINED

    @property
    def title(self) -> str:
        """The number of samples, and the error if there is one."""
        error = self.standard_error
        words = "" if error is None else f" to a standard error of {error:g} nats"
        return f"at least {self.samples} importance samples (auto){words}"

    def check(self, model: LatentModel) -> None:
        """Accept every model: where latents do not allow more, the posterior is used as it is."""

    def rows(self, model: LatentModel, x: torch.Tensor, chunk: int | None) -> list[JsonObject]:
        """Return a record for each row, with how it was estimated and whether to trust it."""
        scores = auto_scores(
            model,
            x,
            self.samples,
            standard_error=self.standard_error,
            limit=self.limit,
            chunk=chunk,
        )
        return records(scores)

    def settings(self) -> JsonObject:
        """Return the fewest samples, the error and the limit if there are any, the proposal."""
        settings: JsonObject = {"samples": self.samples, "proposal": "auto"}
        if self.standard_error is not None:
            settings |= {"standard_error": self.standard_error, "limit_samples": self.limit}
        return settings

    def totals(self, rows: ScoreColumns) -> JsonObject:
        """Return the totals of scores, with the shares of rows by how they were estimated.

        ``unreliable`` is the share whose estimate is no more than a bound. ``khat`` is that of the
        last importance weights, also of a row that was annealed after them.
        """
        result = totals_by_row(rows)
        notes = result.pop("notes", [])
        for name in ("refined", "annealed"):
            result[name] = rows.total(name) / len(rows)
        doubtful = len(rows) - rows.total("reliable")
        result["unreliable"] = doubtful / len(rows)
        if doubtful:
            notes.append(
                f"{doubtful} of {len(rows)} data have an estimate that is no more than a better "
                "bound; raise --samples, or try --method annealed with more --annealing-steps"
            )
        return {**result, "notes": notes} if notes else result

    def report_item(self, rows: ScoreColumns, result: JsonObject, title: str) -> JsonObject:
        """Return the item with log-likelihood, k-hat and number of samples of the rows shown."""
        count = len(rows) - rows.total("reliable")
        note = f"{count} of {len(rows)} data have an estimate that is no more than a better bound."
        return likelihood_item(rows, result, title, note, "khat", "samples")
