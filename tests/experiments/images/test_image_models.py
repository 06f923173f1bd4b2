"""Every row of the registry of image models: built from its options, and from no other."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from density.images.registry import build
from density.likelihoods.laws import LAWS
from experiments.data.readers import read
from experiments.images.config import model_config
from experiments.images.models import IMAGE_MODELS, ImageShape
from univae.errors import InputError

# Options of the pixels, which every network has.
PIXELS = {"model", "likelihood", "components", "reach", "context"}

CHANGED: dict[str, Any] = {
    "latents": (5,),
    "latent_layers": 1,
    "hidden": (7,),
    "hidden_above": (9,),
    "activation": "relu",
    "width": 16,
    "depth": 2,
    "heads": 2,
    "layers": 3,
    "patch": 4,
    "patch_width": 4,
    "near": 1,
}

every_model = pytest.mark.parametrize("name", IMAGE_MODELS)


def shape_of(name: str) -> ImageShape:
    single = IMAGE_MODELS[name].single_latent
    sizes: dict[str, Any] = {"hidden": (8,), "hidden_above": (8,), "width": 8, "patch": 2}
    return ImageShape(model=name, latents=(3,) if single else (3, 2), **sizes)


def test_every_option_is_of_the_pixels_or_of_a_network() -> None:
    used = {option for kind in IMAGE_MODELS.values() for option in kind.options}
    assert used | PIXELS == {field.name for field in fields(ImageShape)}
    assert used == CHANGED.keys()


@every_model
def test_a_network_uses_the_options_it_names_and_no_other(name: str) -> None:
    digits = read("digits")
    shape = shape_of(name)
    base = model_config(shape, digits, binary=True)
    for option, value in CHANGED.items():
        changed = model_config(replace(shape, **{option: value}), digits, binary=True)
        assert (changed != base) == (option in IMAGE_MODELS[name].options), option


@every_model
def test_the_configuration_builds_a_model_that_scores_the_data(name: str) -> None:
    digits = read("digits")
    shape = replace(shape_of(name), latents=(3,), width=16)
    model = build(model_config(shape, digits, binary=True))
    x = torch.bernoulli(torch.full((3, *digits.shape), 0.5))
    log_p = model.likelihood(model.posterior(x).sample()).log_prob(x)
    assert log_p.shape == (3,)
    assert log_p.isfinite().all()
    assert build(model.config).config == model.config


@every_model
@pytest.mark.parametrize(("binary", "expected"), [(True, "bernoulli"), (False, "grey")])
def test_auto_is_a_law_that_fits_the_data(name: str, binary: bool, expected: str) -> None:
    digits = read("digits")
    pixels = model_config(shape_of(name), digits, binary)["pixels"]
    grey = IMAGE_MODELS[name].grey_law
    assert pixels["likelihood"] == (grey if expected == "grey" else expected)
    assert pixels["levels"] == (2 if binary else digits.levels)
    assert not LAWS[pixels["likelihood"]].refusal(pixels["levels"], digits.name)


@every_model
def test_a_network_of_one_latent_refuses_several(name: str) -> None:
    shape = replace(shape_of(name), latents=(3, 2))
    if not IMAGE_MODELS[name].single_latent:
        assert model_config(shape, read("digits"), binary=True)["latents"] == (3, 2)
        return
    with pytest.raises(InputError, match=f"model={name} has one latent; got latents="):
        model_config(shape, read("digits"), binary=True)


def test_real_numbers_are_gaussian() -> None:
    pixels = model_config(ImageShape(), read("wine"), binary=False)["pixels"]
    assert (pixels["likelihood"], pixels["shape"]) == ("gaussian", (13,))
