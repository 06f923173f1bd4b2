"""The registry of proposals, with default settings, for the options of commands.

A new proposal is an object with the methods of :class:`density.estimation.proposals.Proposal`, and
one row of :data:`PROPOSALS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from density.estimation.auto_proposal import Auto
from density.estimation.newton import Newton
from density.estimation.proposals import Defensive, Posterior, Proposal, Sobol, StudentT, Widened
from density.estimation.refined import Refined

__all__ = ["PROPOSALS", "NamedProposal", "ProposalName"]


@dataclass(frozen=True)
class NamedProposal:
    """A row of :data:`PROPOSALS`."""

    summary: str
    build: Callable[..., Proposal]
    settings: Mapping[str, float] = field(default_factory=dict)  # defaults of what ``build`` takes
    # whether estimates are judged, repeated and annealed, see density.estimate_auto
    decides: bool = False

    @property
    def proposal(self) -> Proposal:
        """The proposal with its default settings."""
        return self.build(**self.settings)


def _widened(width: float) -> Proposal:
    return Widened(width)


def _student(width: float, degrees: float) -> Proposal:
    return StudentT(degrees, width)


def _sobol(width: float) -> Proposal:
    return Sobol(Widened(width))


def _refined(width: float) -> Proposal:
    return Refined(proposal=Widened(width))


def _newton(width: float) -> Proposal:
    return Newton(proposal=Sobol(Widened(width)))


WIDER = {"width": 1.2}
PROPOSALS: Mapping[str, NamedProposal] = {
    "posterior": NamedProposal("the encoder's posterior", Posterior),
    "widened": NamedProposal("its spread times 1.2 (Gaussian latents)", _widened, WIDER),
    "student": NamedProposal(
        "heavy tails (Gaussian latents)", _student, {"width": 1.0, "degrees": 5.0}
    ),
    "sobol": NamedProposal("widened, evenly spread (Gaussian latents)", _sobol, WIDER),
    "defensive": NamedProposal("a tenth from the prior", Defensive),
    "refined": NamedProposal(
        "fitted to each datum by 30 gradient steps (Gaussian latents)", _refined, {"width": 1.0}
    ),
    "newton": NamedProposal(
        "full covariance fitted to each datum by 2 Newton steps, evenly spread (Gaussian latents)",
        _newton,
        {"width": 1.1},
    ),
    "auto": NamedProposal(
        "a pilot decides width, tails and refinement of each datum; what stays unreliable is "
        "annealed",
        Auto,
        decides=True,
    ),
}

if TYPE_CHECKING:
    ProposalName: TypeAlias = str
else:
    ProposalName = Literal[tuple(PROPOSALS)]
