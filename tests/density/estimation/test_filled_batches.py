"""Batches of data to score: whole groups of rows that fit into memory, or one row alone."""

from collections.abc import Sequence

import pytest
import torch
from test_importance import wide
from torch import Tensor

from density.estimation.batches import POSITIONS, row_batches
from density.estimation.datum_scores import REFINED
from univae.row_groups import in_whole_groups
from univae.text.special import END
from univae.text.tokenizers import Tokenizer, train_tokenizer
from univae.vae.scoring import TOKENS, text_batches


class Lengths:
    """Texts as ids: as many tokens as characters, the end included."""

    @property
    def tokenizer(self) -> Tokenizer:
        return train_tokenizer("bytes", ["x"])

    def token_ids(self, texts: Sequence[str]) -> Tensor:
        rows = [torch.full((len(text),), END) for text in texts]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


class Positions:
    """A model whose decoder has ``positions`` of a row."""

    def __init__(self, positions: int) -> None:
        self.positions = positions
        self.inner, _ = wide()

    def prior(self) -> torch.distributions.Distribution:
        return self.inner.prior()

    def posterior(self, x: Tensor) -> torch.distributions.Distribution:
        return self.inner.posterior(x)

    def likelihood(self, z: Tensor) -> torch.distributions.Distribution:
        return self.inner.likelihood(z)


def test_rows_are_scored_in_groups_of_four_or_alone() -> None:
    sizes = [in_whole_groups(most, count=2) for most in (1, 3, 4, 7, 8, 11, 16)]
    assert sizes == [1, 1, 1, 1, 8, 8, 16]
    assert in_whole_groups(16, count=1) == 1


@pytest.mark.parametrize("length", [4, 20, 100, 128, 132, 252, 2000])
@pytest.mark.parametrize("count", [2, 3, 19])
def test_filled_batches_of_texts_fit_into_memory(length: int, count: int) -> None:
    rows = []
    for batch in text_batches(Lengths(), ["x" * length] * count, REFINED):
        rows += batch.rows
        assert len(batch.x) == 1 or len(batch.x) % 4 == 0
        assert len(batch.x) == 1 or REFINED * batch.x.numel() <= TOKENS
        assert batch.chunk is not None
        assert batch.chunk * batch.x.numel() <= TOKENS
        assert torch.equal(batch.x, batch.x[:1].expand_as(batch.x))
        if length > 128:
            assert len(batch.x) == 1  # eight of them do not fit: none is decoded in vain
    assert rows == list(range(count))


def test_one_text_or_row_by_itself_is_not_filled() -> None:
    (one_of_two,) = text_batches(Lengths(), ["xxxx"], REFINED, 2)
    assert len(one_of_two.x) == 4
    (batch,) = text_batches(Lengths(), ["xxxx"], REFINED)
    assert batch.x.shape == (1, 4)
    model, x = wide()
    (rows,) = row_batches(model, x[:1], REFINED)
    assert torch.equal(rows.x, x[:1])


@pytest.mark.parametrize("positions", [20, 120, 200])
def test_filled_batches_of_rows_fit_into_memory(positions: int) -> None:
    x = torch.randn(11, 8)
    rows = []
    for batch in row_batches(Positions(positions), x, REFINED):
        rows += batch.rows
        assert torch.equal(batch.x[: len(batch.rows)], x[batch.rows])
        assert len(batch.x) % 4 == 0 or len(batch.x) == 1
        assert REFINED * len(batch.x) * positions <= POSITIONS
        assert batch.chunk is not None
        assert batch.chunk * len(batch.x) * positions <= POSITIONS
    assert rows == list(range(11))
