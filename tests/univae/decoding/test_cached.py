"""The incremental decoder: positions, and rows that are reordered at any time."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from univae.attention.rotary import phases
from univae.decoding.cached import CachedDecoder
from univae.decoding.positions import Positions, RowPositions, SharedPositions
from univae.decoding.sampling import Stepper
from univae.sentence.config import RoFormerSimConfig
from univae.sentence.model import RoFormerSim
from univae.text.padding import pad
from univae.text.special import START
from univae.vae.model import UniVAE, UniVAEConfig

SOURCES = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
TOKENS = torch.tensor([[5, 6, 7], [8, 9, 10], [11, 12, 13]])


def sentence_decoder() -> CachedDecoder:
    torch.manual_seed(0)
    config = RoFormerSimConfig(vocab_size=15, width=16, heads=2, layers=2, max_length=8)
    return RoFormerSim(config).eval().continuation(pad(SOURCES))


def latent_decoder() -> CachedDecoder:
    torch.manual_seed(0)
    config = UniVAEConfig(
        vocab_size=15, width=16, heads=2, layers=3, latent_layers=2, latent_width=4, max_length=8
    )
    model = UniVAE(config).eval()
    return model.decoder(model.prior().sample((3,)))


DECODERS = pytest.mark.parametrize("build", [sentence_decoder, latent_decoder])


def test_positions_of_rows_that_start_together_are_shared_ones() -> None:
    phase = phases(torch.arange(6), 8, dtype=torch.float64)
    shared = SharedPositions(phase, start=2)
    rows = RowPositions(phase, torch.tensor([2, 2, 2]))
    for _ in range(3):
        expected = shared.next_phase()
        for row in rows.next_phase():
            torch.testing.assert_close(row[0, 0], expected, rtol=0, atol=0)
    assert isinstance(shared, Positions)
    assert isinstance(rows, Positions)


def test_reordered_rows_keep_their_positions() -> None:
    phase = phases(torch.arange(9), 8, dtype=torch.float64)
    rows = RowPositions(phase, torch.tensor([1, 4, 6]))
    rows.next_phase()
    rows.reorder(torch.tensor([2, 0]))
    torch.testing.assert_close(rows.next_phase()[:, 0, 0], phase[[7, 2]], rtol=0, atol=0)


@DECODERS
@torch.no_grad()
def test_a_decoder_continues_with_the_rows_it_was_reordered_to(
    build: Callable[[], CachedDecoder],
) -> None:
    order = torch.tensor([2, 0, 0])
    assert isinstance(build(), Stepper)
    for reordered_after in range(4):
        plain = build()
        expected = [plain(tokens)[order] for tokens in inputs()]
        decoder = build()
        for step, tokens in enumerate(inputs()):
            if step == reordered_after:
                decoder.reorder(order)
            if step < reordered_after:
                decoder(tokens)
            else:
                torch.testing.assert_close(decoder(tokens[order]), expected[step])


def inputs() -> list[Tensor]:
    return [torch.full((3,), START), *TOKENS]


@torch.no_grad()
def test_the_first_logits_behind_a_source_ignore_the_tokens() -> None:
    first = sentence_decoder()(torch.full((3,), START))
    torch.testing.assert_close(sentence_decoder()(TOKENS[0]), first, rtol=0, atol=0)
    assert not torch.equal(latent_decoder()(TOKENS[0]), latent_decoder()(TOKENS[1]))
