"""The registry of proposals, with default settings, for the options of commands.

A new proposal is an object with the methods of :class:`density.estimation.proposals.Proposal`, and
one row of :data:`PROPOSALS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from density.estimation.auto_proposal import Auto
from density.estimation.proposals import Defensive, Posterior, Proposal, Sobol, StudentT, Widened
from density.estimation.refined import Refined

__all__ = ["PROPOSALS", "NamedProposal", "ProposalName"]


@dataclass(frozen=True)
class NamedProposal:
    """A row of :data:`PROPOSALS`."""

    summary: str
    proposal: Proposal


PROPOSALS: Mapping[str, NamedProposal] = {
    "posterior": NamedProposal("the encoder's posterior", Posterior()),
    "widened": NamedProposal("its spread times 1.2 (Gaussian latents)", Widened(1.2)),
    "student": NamedProposal("heavy tails (Gaussian latents)", StudentT(5.0)),
    "sobol": NamedProposal("widened, evenly spread (Gaussian latents)", Sobol(Widened(1.2))),
    "defensive": NamedProposal("a tenth from the prior", Defensive(0.9)),
    "refined": NamedProposal(
        "fitted to each datum by 30 gradient steps (Gaussian latents)", Refined()
    ),
    "auto": NamedProposal(
        "a pilot decides width, tails and refinement of each datum; a tenth from the prior", Auto()
    ),
}

if TYPE_CHECKING:
    ProposalName: TypeAlias = str
else:
    ProposalName = Literal[tuple(PROPOSALS)]
