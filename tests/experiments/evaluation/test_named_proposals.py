"""Every named proposal estimates the same likelihood."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from density import log_weights
from experiments.evaluation.proposals import PROPOSALS, ProposalName, proposal
from univae.errors import InputError


class Linear:
    """z ~ N(0, 1), x | z ~ N(z, 1), with a posterior that is a little too wide."""

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(x / 2, 1.1 * math.sqrt(0.5)), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, 1.0), 1)


@pytest.mark.parametrize("name", PROPOSALS)
def test_every_proposal_gives_the_exact_likelihood_within_five_standard_errors(name: str) -> None:
    x = torch.tensor([[0.3], [-1.0], [2.0]])
    exact = Normal(0.0, math.sqrt(2.0)).log_prob(x).squeeze(1)
    weights = (log_weights(Linear(), x, 4096, proposal=proposal(name)) - exact).exp()
    error = weights.std(0) / math.sqrt(len(weights))
    assert ((weights.mean(0) - 1).abs() < 5 * error + 1e-6).all()
    assert PROPOSALS[name].summary


def test_the_names_are_those_of_the_option() -> None:
    assert get_args(ProposalName) == tuple(PROPOSALS)
    with pytest.raises(InputError, match=r"--proposal must be one of posterior, .*; got 'other'"):
        proposal("other")
