"""Configurations with which trained weights read longer texts."""

import math

import pytest
import torch

from univae import RoFormerSim, RoFormerSimConfig, UniVAE, UniVAEConfig
from univae.attention import stretched
from univae.attention.rotary import phases
from univae.checkpoint import JsonObject
from univae.errors import InputError

SHAPE: JsonObject = {"width": 16, "heads": 2, "layers": 2, "max_length": 8}
SHORT = UniVAEConfig(20, latent_layers=2, latent_width=3, **SHAPE)
TEXTS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 2], [7, 2, 0, 0, 0, 0, 0, 0]])


def test_a_model_reads_longer_texts_with_the_same_weights() -> None:
    model = UniVAE(SHORT).eval()
    longer = UniVAE(stretched(SHORT, 32)).eval()
    longer.load_state_dict(model.state_dict())
    text = torch.cat((torch.arange(3, 20), torch.arange(3, 17), torch.tensor([2])))[None]
    z = longer.posterior(text).modes()
    assert longer.likelihood(z).log_prob(text).isfinite().all()
    assert longer.likelihood(z).sample().shape[-1] <= 32


def test_rows_below_the_length_of_training_keep_their_scale_and_change_by_positions_alone() -> None:
    config = stretched(SHORT, 32)
    unscaled = UniVAEConfig(
        20, latent_layers=2, latent_width=3, **SHAPE, rotary_base=config.rotary_base
    )
    torch.manual_seed(0)
    model = UniVAE(unscaled).eval()
    longer = UniVAE(config).eval()
    longer.load_state_dict(model.state_dict())
    z = model.prior().sample((2,))
    short = TEXTS[:, :7]  # rows see at most 8 keys
    expected = model.likelihood(z).log_prob(short)
    torch.testing.assert_close(longer.likelihood(z).log_prob(short), expected)


def test_the_base_is_that_of_the_formula_and_a_scale_of_training_stays() -> None:
    config = stretched(SHORT, 24)
    assert config.rotary_base == pytest.approx(10_000 * 3 ** (8 / 6))
    assert (config.scale, config.scale_base) == ("log_n_clip", 8)
    trained = stretched(UniVAEConfig(20, scale="log_n", scale_base=64, **SHAPE), 24)
    assert (trained.scale, trained.scale_base) == ("log_n", 64)
    clipped = stretched(UniVAEConfig(20, scale="log_n_clip", **SHAPE), 24)
    assert (clipped.scale, clipped.scale_base) == ("log_n_clip", 8)
    again = stretched(config, 48)
    assert again.rotary_base == pytest.approx(10_000 * 6 ** (8 / 6))
    assert again.scale_base == 8


def test_positions_of_both_models_follow_the_base() -> None:
    config = RoFormerSimConfig(20, **SHAPE, rotary_base=50.0)
    model = RoFormerSim(config)
    expected = phases(torch.arange(17), 8, 50.0)
    torch.testing.assert_close(model._phase.to(expected.dtype), expected)
    slowest = model._phase[1, -1].angle().item()
    assert slowest == pytest.approx(50 ** (-6 / 8), rel=1e-6)
    assert not math.isclose(slowest, 10_000 ** (-6 / 8))


def test_a_length_that_the_model_reads_already_is_refused() -> None:
    with pytest.raises(InputError, match="above the model's max_length=8; got 8"):
        stretched(SHORT, 8)
