"""The proposals of importance sampling by the names that ``--proposal`` gives them."""

from collections.abc import Mapping

from density import LatentModel
from density.estimation.proposals import Proposal
from density.estimation.registry import PROPOSALS, ProposalName
from experiments.evaluation.flat_latents import require_flat
from univae.errors import InputError
from univae.registry import lookup

__all__ = ["PROPOSALS", "ProposalName", "check_proposal", "proposal", "proposal_settings"]


def proposal(name: str, settings: Mapping[str, float | None] | None = None) -> Proposal:
    """Return the proposal of a row of :data:`PROPOSALS`, see :func:`proposal_settings`."""
    values = proposal_settings(name, settings or {})
    return PROPOSALS[name].build(**values)


def proposal_settings(name: str, settings: Mapping[str, float | None]) -> dict[str, float]:
    """Return all settings of a proposal: those of ``settings`` that are not None, and defaults.

    Raises:
        InputError: there is no such row, or it has no setting of a name in ``settings``.
    """
    row = lookup(PROPOSALS, name, "--proposal")
    changed = {setting: value for setting, value in settings.items() if value is not None}
    for setting, value in changed.items():
        if setting not in row.settings:
            takers = [other for other, each in PROPOSALS.items() if setting in each.settings]
            raise InputError(
                f"--{setting} is for --proposal {', '.join(takers)}; got --{setting} {value:g} "
                f"with --proposal {name}; leave it out"
            )
    return {**row.settings, **changed}


def check_proposal(model: LatentModel, name: str) -> None:
    """Raise :class:`InputError` where a proposal that widens noise has no noise to widen."""
    if "width" in PROPOSALS[name].settings:
        require_flat(model, f"--proposal {name}", "use --proposal posterior or defensive")
