"""A training task on a corpus of token ids, in batches of about equal numbers of tokens."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor, nn

from experiments.training.held_out_task import HeldOutTask
from experiments.training.units import Units
from univae.text.corpus import Corpus, token_batches
from univae.text.special import PAD

__all__ = ["TokenTask"]

Model = TypeVar("Model", bound=nn.Module)


class TokenTask(HeldOutTask, Generic[Model]):
    """The base of training tasks on texts: their batches, and the tokens of a batch.

    Args:
        model: the model to train.
        batch_tokens: most tokens of a batch, padding included.
        seed: of the order of the texts.
        train: a corpus, and the indices of its texts to train on.
        held_out: the texts of validations, padded ids (N, T).
    """

    def __init__(
        self,
        model: Model,
        batch_tokens: int,
        seed: int,
        train: tuple[Corpus, np.ndarray],
        held_out: Tensor,
    ) -> None:
        super().__init__(held_out)
        self.module = model
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.corpus, self.train = train

    @property
    def units(self) -> Units:
        """The words for its data."""
        return Units("text", "tokens")

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the indices of the texts of every batch, in an order drawn for the epoch."""
        lengths = self.corpus.lengths[self.train]
        batches = token_batches(lengths, self.batch_tokens, self.seed, epoch)
        return [self.train[batch] for batch in batches]

    def load(self, item: np.ndarray) -> Tensor:
        """Return the padded ids of the texts of a batch."""
        return self.corpus.gather(item)

    def weight(self, batch: Tensor) -> int:
        """Return the number of tokens of a batch, without padding."""
        return int((batch != PAD).sum())
