"""The proposals of importance sampling by the names that ``--proposal`` gives them."""

from density.estimation.proposals import Proposal
from density.estimation.registry import PROPOSALS, ProposalName
from univae.registry import lookup

__all__ = ["PROPOSALS", "ProposalName", "proposal"]


def proposal(name: str) -> Proposal:
    """Return the proposal of a row of :data:`PROPOSALS`.

    Raises:
        InputError: there is no such row.
    """
    return lookup(PROPOSALS, name, "--proposal").proposal
