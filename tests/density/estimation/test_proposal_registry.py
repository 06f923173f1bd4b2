"""One battery over every row of the registry of proposals."""

import pytest
import torch
from test_importance import wide

from density.estimation.importance import estimate, log_weights
from density.estimation.registry import PROPOSALS

EVERY = pytest.mark.parametrize("name", PROPOSALS)


@EVERY
def test_a_row_draws_exactly_the_samples_asked_for_in_chunks(name: str) -> None:
    model, x = wide()
    assert PROPOSALS[name].summary
    assert log_weights(model, x, 12, proposal=PROPOSALS[name].proposal, chunk=5).shape == (12, 5)


@EVERY
def test_a_row_leaves_the_estimate_unbiased(name: str) -> None:
    model, x = wide()
    log_w = log_weights(model, x, 20_000, proposal=PROPOSALS[name].proposal)
    weights = (log_w - model.evidence(x)).exp()
    error = 5 * weights.std(0) / len(weights) ** 0.5 + 1e-9
    assert ((weights.mean(0) - 1).abs() < error).all()


def test_the_row_posterior_is_the_default() -> None:
    model, x = wide()
    results = []
    for proposal in (None, PROPOSALS["posterior"].proposal):
        torch.manual_seed(1)
        results.append(estimate(model, x, 8, proposal=proposal).log_likelihood)
    assert torch.equal(*results)


@EVERY
def test_a_row_with_other_settings_is_unbiased_too_and_each_setting_counts(name: str) -> None:
    model, x = wide()
    row = PROPOSALS[name]
    for setting, default in row.settings.items():
        changed = row.build(**{**row.settings, setting: 1.5 * default})
        assert changed != row.proposal
        weights = (log_weights(model, x, 20_000, proposal=changed) - model.evidence(x)).exp()
        error = 5 * weights.std(0) / len(weights) ** 0.5 + 1e-9
        assert ((weights.mean(0) - 1).abs() < error).all()
