"""Every row of NETWORKS: options that exist, the configuration of a run, one place for auto."""

import json
from typing import Any

import pytest
import torch

from gan.networks.registry import AUTO, NETWORKS, build, families_with, network_config
from gan.normalization.spectral import SPECTRAL_NORMS, is_spectral
from gan.players import Players
from univae.checkpoint import to_json

VALUES: dict[str, Any] = {
    "latent": 5,
    "width": 8,
    "hidden": (7,),
    "leak": 0.2,
    "heads": 2,
    "layers": 1,
    "patch": 4,
    "skip": True,
}
IMAGE = (1, 16, 16)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_option_of_a_row_reaches_its_networks(name: str) -> None:
    family = NETWORKS[name]
    config = network_config(name, IMAGE, 3, VALUES)
    assert config["generator"]["network"] == family.generator.__name__
    assert config["critic"]["network"] == family.critic.__name__
    options = {option for option in (*VALUES, "bounded") if family.uses(option)}
    in_configs = {*config["generator"], *config["critic"]}
    assert in_configs == options | {"network", "latent", "shape", "classes"}
    for network in (build(config["generator"]), build(config["critic"])):
        assert network.shape == IMAGE
        assert network.classes == 3
        assert all(network.config[key] == VALUES[key] for key in VALUES if key in network.config)
    assert build(config["generator"]).latent == 5
    assert build(config["critic"]).latent == 0


@pytest.mark.parametrize(
    ("shape", "name", "bounded"), [((7,), "mlp", False), ((1, 7, 7, 7), "mlp", False)]
)
def test_auto_takes_the_mlp_for_rows_that_are_no_images(
    shape: tuple[int, ...], name: str, bounded: bool
) -> None:
    config = network_config(AUTO, shape, 0, VALUES)
    assert config == network_config(name, shape, 0, VALUES)
    assert config["generator"]["bounded"] == bounded


def test_auto_takes_convolutions_for_images_and_an_mlp_of_images_is_bounded() -> None:
    assert network_config(AUTO, IMAGE, 0, VALUES) == network_config("conv", IMAGE, 0, VALUES)
    assert network_config("mlp", IMAGE, 0, VALUES)["generator"]["bounded"]


def test_the_help_of_an_option_names_the_families_that_use_it() -> None:
    assert families_with("width") == "conv, resnet, attention"
    assert families_with("leak") == "mlp, conv"
    assert families_with("skip") == "resnet"


@pytest.mark.parametrize("spectral", SPECTRAL_NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_players_are_rebuilt_from_their_json(name: str, spectral: str) -> None:
    config = network_config(name, IMAGE, 3, VALUES) | {"spectral": spectral}
    players = Players(config)
    assert is_spectral(players.critic) == SPECTRAL_NORMS[spectral].normalizes
    again = Players(json.loads(json.dumps(to_json(config))))
    again.load_state_dict(players.state_dict())
    x = torch.randn(2, *IMAGE)
    labels = torch.tensor([0, 2])
    assert torch.equal(players.eval().critic(x, labels), again.eval().critic(x, labels))
