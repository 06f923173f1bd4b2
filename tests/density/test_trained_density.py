"""A trained image or table model takes and returns rows in the units of the data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from density.images.base import DataModel
from density.images.ladder import LadderVAE
from density.images.mlp import MLPVAE
from density.images.univae import PatchVAE
from density.likelihoods.head import Pixels
from density.trained import TrainedDensity
from univae.errors import InputError
from univae.run_folder import RunFolder

PIXELS = Pixels((1, 8, 8), "logistic", levels=17)
LAYERED = {
    "mlp": lambda: MLPVAE(PIXELS, latents=(4, 3), hidden=((8,), (8,))),
    "ladder": lambda: LadderVAE(
        Pixels((1, 16, 16), "logistic", levels=17), latents=(1, 2), width=4
    ),
    "univae": lambda: PatchVAE(
        Pixels((1, 8, 8)), patch=(4, 4), width=8, layers=2, latent_layers=2, latent=3
    ),
}


def run_of(model: DataModel, tmp_path: Path) -> TrainedDensity:
    """Return a run with random weights, so that pixels depend on the latents."""
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    folder = RunFolder(tmp_path, {})
    return TrainedDensity(folder, torch.device("cpu"), "best", model.eval())


@pytest.fixture
def run(tmp_path: Path) -> TrainedDensity:
    return run_of(LAYERED["mlp"](), tmp_path)


def test_samples_repeat_by_their_seed_and_leave_the_global_generator(run: TrainedDensity) -> None:
    before = torch.get_rng_state()
    first = run.sample(130, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == (130, 1, 8, 8)
    assert first.dtype == np.uint8
    assert first.max() <= 16
    assert np.array_equal(run.sample(130, seed=5), first)
    assert not np.array_equal(run.sample(130, seed=6), first)
    assert not np.array_equal(run.sample(130), run.sample(130))


def test_codes_are_the_modes_of_all_layers_side_by_side(run: TrainedDensity) -> None:
    rows = run.sample(120, seed=0)
    codes = run.encode(rows)
    assert codes.shape == (120, 7)
    assert codes.dtype == np.float32
    modes = run.model.posterior(run.to_model(rows[:2])).modes()
    np.testing.assert_allclose(codes[:2], modes.detach().float(), rtol=1e-5)


def test_a_path_leads_from_one_reconstruction_to_the_other(run: TrainedDensity) -> None:
    a, b = run.sample(2, seed=0)
    path = run.interpolate(a, b, 3)
    assert np.array_equal(path[[0, 2]], run.reconstruct([a, b]))
    middle = run.modes(run.to_model(np.stack([a, b]))).mean(0, keepdim=True)
    assert np.array_equal(path[1:2], run.from_model(run.decode(middle)))


@pytest.mark.parametrize("name", LAYERED)
def test_an_edit_keeps_the_layers_that_are_not_drawn(name: str, tmp_path: Path) -> None:
    run = run_of(LAYERED[name](), tmp_path)
    row = run.sample(1, seed=0)
    assert run.model.layer_count == 2
    z = run.modes(run.to_model(row))[0]
    edited = run.redraw(z, [0], 4)
    changed = (edited != z).flatten(1).any(0)
    width = {"mlp": 4, "ladder": 64, "univae": 3}[name]
    assert int(changed.sum()) == width  # every number of layer 0, and no other
    reconstruction, rows = run.edit(row[0], [0], 3, seed=1)
    assert reconstruction.shape == row.shape[1:]
    assert rows.shape == (3, *row.shape[1:])
    assert np.array_equal(run.edit(row, [0], 3, seed=1)[1], rows)


def test_a_layer_is_drawn_from_the_prior_given_the_other(run: TrainedDensity) -> None:
    z = run.modes(run.to_model(run.sample(1, seed=0)))[0]
    drawn = run.redraw(z, [0], 4000)[:, :4]
    with torch.inference_mode():
        conditional = run.model.prior().conditionals(z[None])[0].base_dist
    error = (drawn - conditional.loc) / conditional.scale
    # fails for one number in about 1.7 million
    assert (error.mean(0).abs() < 5 / 4000**0.5).all()
    assert ((error.std(0) - 1).abs() < 5 / 8000**0.5).all()


def test_no_layer_is_no_edit(run: TrainedDensity) -> None:
    row = run.sample(1, seed=0)
    reconstruction, rows = run.edit(row, [], 2)
    assert np.array_equal(rows, np.stack([reconstruction] * 2))


def test_edits_that_change_nothing_or_everything_are_refused(
    run: TrainedDensity, tmp_path: Path
) -> None:
    row = run.sample(1, seed=0)
    with pytest.raises(InputError, match=r"latent layers are 0\.\.1; got \[2\]"):
        run.edit(row, [0, 2])
    with pytest.raises(InputError, match=r"depend on layer 0 alone, .* got \[1\]; add 0"):
        run.edit(row, [1])
    with pytest.raises(InputError, match="count must be at least 1"):
        run.edit(row, [0], 0)
    single = run_of(MLPVAE(PIXELS, latents=(3,), hidden=((8,),)), tmp_path)
    with pytest.raises(InputError, match="has one latent layer"):
        single.edit(row, [0])
    with pytest.raises(InputError, match="the model has one latent layer"):
        single.model.resample(torch.zeros(1, 3), [0])


def test_wrong_counts_are_refused(run: TrainedDensity) -> None:
    rows = run.sample(2, seed=0)
    with pytest.raises(InputError, match="a must be one row; got 2 rows"):
        run.interpolate(rows, rows[0])
    with pytest.raises(InputError, match="steps must be at least 2"):
        run.interpolate(rows[0], rows[1], 1)
    with pytest.raises(InputError, match="count must be at least 1"):
        run.sample(0)
