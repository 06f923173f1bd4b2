"""Texts as a code: a token without finite probabilities is named with the row of its text."""

import pytest
import torch
from torch import Tensor

from density.coding.bits_back import BitsBack
from density.coding.blocks import encode
from density.coding.container import Header
from density.coding.data_code import Coding
from density.coding.exact import exactly
from experiments.text.code import TextCode
from univae.decoding.cached import CachedDecoder
from univae.errors import InputError
from univae.vae.model import UniVAE, UniVAEConfig

BREAKING = 8  # a token after which the model gives no numbers


class Breaking(UniVAE):
    def decoder(self, z: Tensor, capacity: int | None = None) -> CachedDecoder:
        step = super().decoder(z, capacity)
        plain = type(step).__call__

        class Broken(type(step)):  # type: ignore[misc]
            def __call__(self, tokens: Tensor) -> Tensor:
                logits = plain(self, tokens)
                return logits.masked_fill((tokens == BREAKING)[:, None], torch.nan)

        step.__class__ = Broken
        return step


@pytest.mark.parametrize("tile", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("block", [7, 100])
@pytest.mark.parametrize("broken", [0, 29])
def test_the_row_of_a_text_is_named(broken: int, block: int, tile: int) -> None:
    config = UniVAEConfig(9, width=8, heads=2, layers=2, latent_layers=2, latent_width=2)
    model = Breaking(config).eval()
    texts = [[5, 6, 7, 5]] * 40
    texts[broken] = [5, BREAKING, 6]
    coding = Coding(tile=tile)
    header = Header(bytes(32), coding, "2.0", "text", (), {}, ())
    with exactly():
        coder = BitsBack(model, TextCode(model, tile), coding)
        with pytest.raises(
            InputError,
            match=f"distribution of a token has no finite probabilities for row {broken};",
        ):
            encode(coder, texts, header, block)
