"""The sandwich: bounds on the likelihood of simulated data from below and above.

Both sides bound the same numbers, so their gap limits the error of annealed estimates on data like
the model's own, whatever the model.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from density.estimation.annealed import PILOTS, Sandwich, sandwich_of, simulate
from density.estimation.annealing_path import Start
from experiments.evaluation.flat_latents import require_flat
from experiments.evaluation.scorer import Scorer
from experiments.evaluation.scores import finite
from univae.checkpoint import JsonObject

__all__ = ["Simulation"]


@dataclass(frozen=True)
class Simulation:
    """``count`` data drawn from a model, and the chains that bound their likelihood."""

    count: int
    steps: int
    chains: int
    start: Start

    def check(self, scorer: Scorer) -> None:
        """Raise :class:`univae.errors.InputError` for latents on a sphere."""
        require_flat(scorer.model, "--sandwich", "leave it out")

    def bounds(self, scorer: Scorer) -> JsonObject:
        """Return mean bounds and gap in nats, each with its standard error over the data.

        ``cut`` counts texts without an end. With one datum the errors are None.
        """
        bounds = []
        cut = 0
        batch = scorer.rows_at_once(self.chains + PILOTS)
        with tqdm(total=self.count, desc="simulating", disable=None, leave=False) as bar:
            for start in range(0, self.count, batch):
                count = min(batch, self.count - start)
                simulated = simulate(scorer.model, count)
                cut += scorer.count_cut(simulated.x)
                bounds.append(
                    sandwich_of(scorer.model, simulated, self.steps, self.chains, start=self.start)
                )
                bar.update(count)
        lower = torch.cat([each.lower for each in bounds])
        upper = torch.cat([each.upper for each in bounds])
        return {"count": self.count, "cut": cut, **_means(Sandwich(lower, upper))}

    def notes(self, result: JsonObject) -> list[str]:
        """Return notes on data that were cut, and on numbers of :meth:`bounds` that are null."""
        notes = []
        if result["cut"]:
            notes.append(
                f"sandwich: {result['cut']} of {self.count} simulated texts have max_length tokens "
                "and no end; their bounds are of the probability that a text begins so"
            )
        nulls = [name for name, value in result.items() if value is None]
        if nulls:
            reason = "a bound is not finite" if self.count > 1 else "one datum has no spread"
            notes.append(f"sandwich: {', '.join(nulls)} are null: {reason}")
        return notes


def _means(sandwich: Sandwich) -> JsonObject:
    """Return mean and standard error over the data of the bounds and of their gap."""
    columns = {"lower": sandwich.lower, "upper": sandwich.upper, "gap": sandwich.gap}
    result: JsonObject = {}
    for name, values in columns.items():
        result[f"{name}_nats"] = finite(values.mean().item())
        result[f"{name}_standard_error_nats"] = finite(_error(values))
    return result


def _error(values: Tensor) -> float:
    """Return the standard error of a mean; NaN for a single value."""
    if len(values) == 1:
        return math.nan
    return values.std().item() / math.sqrt(len(values))
