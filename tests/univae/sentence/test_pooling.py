"""Every pooling reads the rows of a sentence and none of its padding."""

import pytest
import torch

from univae.errors import InputError
from univae.registry import choices_help
from univae.sentence.config import RoFormerSimConfig
from univae.sentence.model import RoFormerSim
from univae.sentence.pooling import POOLINGS
from univae.text.padding import pad

every_row = pytest.mark.parametrize("name", list(POOLINGS))


@every_row
def test_a_row_is_a_choice_of_the_configuration_and_says_what_it_is(name: str) -> None:
    assert RoFormerSimConfig(vocab_size=9, pooling=name).pooling == name
    assert f"{name}: {POOLINGS[name].summary}" in choices_help("pooling", POOLINGS)


@every_row
def test_padding_changes_no_vector_and_tokens_do(name: str) -> None:
    config = RoFormerSimConfig(vocab_size=9, width=8, heads=2, layers=1, pooling=name)
    model = RoFormerSim(config).eval()
    alone = model.read(pad([[5, 6]]))
    beside_longer = model.read(pad([[5, 6], [7, 8, 3, 4, 5]]))
    torch.testing.assert_close(beside_longer[:1], alone)
    assert (model.read(pad([[5, 7]])) - alone).abs().max() > 1e-6


@every_row
def test_equal_rows_are_pooled_to_their_norm(name: str) -> None:
    row = torch.randn(8)
    real = torch.tensor([[True, True, False]])
    rows = torch.stack((row, row, torch.randn(8)))[None]
    norm = torch.nn.LayerNorm(8)
    torch.testing.assert_close(POOLINGS[name].pool(rows, real, norm), norm(row)[None])


@pytest.mark.usefixtures("unchecked")
def test_another_name_is_refused_with_the_rows_there_are() -> None:
    with pytest.raises(InputError, match="pooling must be first or mean; got pooling=last"):
        RoFormerSimConfig(vocab_size=9, pooling="last")
