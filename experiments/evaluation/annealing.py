"""Annealed importance sampling as an estimator."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from density import LatentModel, annealed
from density.estimation.annealed import PILOTS
from density.estimation.annealing_path import Start
from experiments.evaluation.estimators import Diagnostic, likelihood_item
from experiments.evaluation.flat_latents import require_flat
from experiments.evaluation.score_columns import ScoreColumns
from experiments.evaluation.scores import COLUMNS, likelihood_totals, records
from univae.checkpoint import JsonObject

__all__ = ["Annealing"]

# Columns and totals of importance weights, which chains have not.
OF_WEIGHTS = (
    "elbo_nats",
    "effective_samples_median",
    "khat_above_0.7",
    "khat_unreliable",
    "khat_threshold",
)
FEW_CHAINS = 2.0  # effective chains below which one chain has most of the weight


@dataclass(frozen=True)
class Annealing:
    """Annealed importance sampling: ``chains`` a row along ``steps`` of a path from ``start``."""

    steps: int
    chains: int
    start: Start
    columns: ClassVar[tuple[str, ...]] = ("effective_chains", "acceptance")
    diagnostic: ClassVar[Diagnostic] = Diagnostic("effective_chains", "effective chains")

    @property
    def latents(self) -> int:
        """All chains of a datum, the pilots included."""
        return self.chains + PILOTS

    @property
    def title(self) -> str:
        """The chains, their steps and their start."""
        return f"{self.chains} annealed chains of {self.steps} steps from the {self.start}"

    def check(self, model: LatentModel) -> None:
        """Raise :class:`InputError` for latents on a sphere."""
        remedy = "use --method importance, with --proposal defensive where the posterior is poor"
        require_flat(model, "--method annealed", remedy)

    def rows(self, model: LatentModel, x: Tensor, chunk: int | None) -> list[JsonObject]:
        """Return a record for each row; None in the columns of importance weights."""
        result = annealed(model, x, self.steps, self.chains, start=self.start)
        empty: JsonObject = dict.fromkeys(COLUMNS)
        return [empty | record for record in records(result._asdict())]

    def settings(self) -> JsonObject:
        """Return steps, chains and start."""
        return {
            "annealing_steps": self.steps,
            "chains": self.chains,
            "start": self.start,
        }

    def totals(self, rows: ScoreColumns) -> JsonObject:
        """Return the mean likelihood, effective chains and acceptance; None for :data:`OF_WEIGHTS`.

        ``acceptance_mean`` is that of the Hamiltonian moves: near 0.65 where their step sizes were
        tuned.
        """
        result = likelihood_totals(rows)
        effective = rows.column("effective_chains")
        notes = result.pop("notes", [])
        few = int((effective < FEW_CHAINS).sum())
        if few:
            notes.append(
                f"{few} of {len(rows)} data have fewer than {FEW_CHAINS:g} effective chains: one "
                "chain has most of their weight, and their estimate is no more than a lower bound; "
                "raise --annealing-steps or --chains"
            )
        notes.append(
            f"{', '.join(OF_WEIGHTS)} are null: they are of importance weights, "
            "and --method annealed has none"
        )
        return {
            **result,
            **dict.fromkeys(OF_WEIGHTS),
            "effective_chains_median": effective.median().item(),
            "acceptance_mean": rows.column("acceptance").mean().item(),
            "notes": notes,
        }

    def report_item(self, rows: ScoreColumns, result: JsonObject, title: str) -> JsonObject:
        """Return the item with log-likelihood and effective chains of the rows shown."""
        note = "Estimates by annealed chains, in expectation lower bounds."
        return likelihood_item(rows, result, title, note, "effective_chains")
