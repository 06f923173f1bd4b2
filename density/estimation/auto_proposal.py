r"""A proposal that decides for itself: width, tails, refinement and a share of the prior.

A pilot (:mod:`density.estimation.pilot`) compares widths and tails for each datum. Data whose
pilot is poor are refined (:class:`density.estimation.refined.Refined`) and compared again. The
draws of pilot and refinement are not used in the weights, so these stay unbiased. A share of the
prior bounds the weights and finds parts of the posterior that the encoder misses.
"""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch.distributions import Distribution

from density.estimation.batches import whole_groups
from density.estimation.diagnostics import khat_threshold
from density.estimation.fitted import Fitted
from density.estimation.importance import samples_decoded
from density.estimation.moved import is_invertible, moved_alike, moved_where, widened
from density.estimation.pilot import PILOT_DRAWS, Pilot, run_pilot
from density.estimation.proposals import Defensive, Draws, Posterior, Proposal
from density.estimation.refined import Refined
from density.estimation.streams import rows_with_streams
from density.model import LatentModel, as_data
from univae.errors import InputError

__all__ = ["Auto", "Decision"]

THRESHOLD = khat_threshold(PILOT_DRAWS)
SMALLEST_EFFICIENCY = 0.3  # of a proposal that is not refined


class Decision(NamedTuple):
    """What :class:`Auto` decided for each datum."""

    factor: Float64[Tensor, "B"]  # of the spread of the posterior, after any refinement
    student: Bool[Tensor, "B"]  # heavy tails, not Gaussian ones
    refined: Bool[Tensor, "B"]
    khat: Float64[Tensor, "B"]  # of the last pilot; NaN without one
    log_likelihood: Float64[Tensor, "B"]  # the estimate of the last pilot; NaN without one
    prior_share: float  # of the draws

    @property
    def widened(self) -> Bool[Tensor, "B"]:
        """Where the spread is larger than that of the posterior."""
        return self.factor > 1


@dataclass(frozen=True)
class Auto:
    """Draws whose width, tails and refinement a pilot decides for each datum.

    A posterior that does not map normal noise to latents and back (von Mises-Fisher, Pyro,
    discrete) is mixed with the prior, or used as it is where prior or posterior refuse that.

    Raises:
        InputError: ``prior_share`` is not between 0 and 1.
    """

    prior_share: float = 0.1
    refinement: Refined = field(default_factory=Refined)
    replicates: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 < self.prior_share < 1:
            raise InputError(
                "Auto: prior_share must lie between 0 and 1; "
                f"got prior_share={self.prior_share}; 0.1 is usual"
            )

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum of the proposal that a new pilot decides."""
        proposal, _ = self.fit(model, x, q, chunk)
        yield from proposal.draws(model, x, q, samples, chunk)

    def decide(self, model: LatentModel, x: Tensor, q: Distribution) -> Decision:
        """Return what a pilot decides, for the posterior ``q`` of ``x``; raises as :meth:`fit`."""
        return self.fit(model, x, q)[1]

    @torch.no_grad()
    def fit(
        self, model: LatentModel, x: Tensor, q: Distribution, chunk: int | None = None
    ) -> tuple[Proposal, Decision]:
        """Return the proposal that a pilot decides for ``x``, and the decision.

        ``chunk`` draws are decoded at once. The proposal serves any batch of rows of x.

        Raises:
            InputError: inference mode is on, and data are to be refined.
        """
        x = as_data(x, "Auto")
        chunk = chunk or samples_decoded(x, len(x))
        is_mixable = _is_mixable(model, x, q)
        if not (is_mixable and is_invertible(q)):
            share = self.prior_share if is_mixable else 0.0
            proposal = Defensive(1 - share) if is_mixable else Posterior()
            return proposal, _undecided(len(x), share, x.device)
        return self._fit_noise(model, x, q, chunk)

    def _fit_noise(
        self, model: LatentModel, x: Tensor, q: Distribution, chunk: int
    ) -> tuple[Fitted, Decision]:
        """Run a pilot, refine the data where it is poor, and run a second one for these.

        The refinement of a datum is kept where the second pilot is better: more efficient or, where
        the first one is too poor to tell, of lighter tails.
        """
        pilot = run_pilot(model, x, q, self.prior_share, chunk)
        moved = widened(q, pilot.factor)
        rows = pilot.is_poor(THRESHOLD) | (pilot.efficiency < SMALLEST_EFFICIENCY)
        if rows.any():
            moved = self.refinement.refine(model, x, moved, rows=rows)
            chosen = whole_groups(rows, len(x))
            data = rows_with_streams(x, chosen)
            encoder = moved_alike(model.posterior(data), moved, chosen)
            second = run_pilot(model, data, encoder, self.prior_share, chunk)
            second = Pilot(*[values[: int(rows.sum())] for values in second])
            is_better = second.efficiency > pilot.efficiency[rows]
            is_better |= pilot.is_poor(THRESHOLD)[rows] & (second.khat < pilot.khat[rows])
            rows = rows.masked_scatter(rows, is_better)
            second = Pilot(*[values[is_better] for values in second])
            pilot = Pilot(
                *[
                    values.masked_scatter(rows, new_values)
                    for values, new_values in zip(pilot, second, strict=True)
                ]
            )
            moved = widened(moved_where(moved, rows), torch.where(rows, pilot.factor, 1.0))
        decision = Decision(
            pilot.factor, pilot.student, rows, pilot.khat, pilot.log_likelihood, self.prior_share
        )
        return Fitted(x, moved, pilot.student, self.prior_share), decision


def _undecided(count: int, share: float, device: torch.device) -> Decision:
    ones = torch.ones(count, dtype=torch.float64, device=device)
    no = torch.zeros(count, dtype=torch.bool, device=device)
    nan = ones * torch.nan
    return Decision(ones, no, no, nan, nan, share)


def _is_mixable(model: LatentModel, x: Tensor, q: Distribution) -> bool:
    """Return whether the prior can be sampled and the posterior scores its samples."""
    try:
        next(iter(Defensive().draws(model, x, q, 1, 1)))
    except (InputError, NotImplementedError, ValueError):
        return False
    return True
