"""The registry of proposals of importance sampling that ``--proposal`` names: ``PROPOSALS``.

To add a proposal is to add a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from density import Defensive, Proposal, Refined, Sobol, StudentT, Widened
from univae.registry import lookup

__all__ = ["PROPOSALS", "NamedProposal", "ProposalName", "proposal"]


@dataclass(frozen=True)
class NamedProposal:
    """A proposal with its settings; None samples from the posterior itself."""

    summary: str
    proposal: Proposal | None


PROPOSALS: Mapping[str, NamedProposal] = {
    "posterior": NamedProposal("the approximate posterior", None),
    "widened": NamedProposal("the posterior with 1.2 times its deviations", Widened(1.2)),
    "student": NamedProposal("Student's t of 5 degrees of freedom at the posterior", StudentT(5.0)),
    "sobol": NamedProposal("widened, by quasi-random points", Sobol(Widened(1.2))),
    "defensive": NamedProposal("a mixture of 0.9 posterior and 0.1 prior", Defensive(0.9)),
    "refined": NamedProposal(
        "10 steps of refinement per row, then widened", Refined(10, proposal=Widened(1.2))
    ),
}

if TYPE_CHECKING:
    ProposalName: TypeAlias = str
else:
    ProposalName = Literal[tuple(PROPOSALS)]


def proposal(name: str) -> Proposal | None:
    """Return the proposal of a name; None for the posterior itself.

    Raises:
        InputError: there is no such proposal.
    """
    return lookup(PROPOSALS, name, "--proposal").proposal
